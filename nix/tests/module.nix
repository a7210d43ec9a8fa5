# What the module makes of services: cases, each with what is expected of it.
# `evaluate` gives the configuration that a list of modules makes.
{
  lib,
  evaluate,
  package,
}:
let
  shim = "${lib.getLib package}/lib/libreuseport.so";
  command = "/bin/sh -c 'exit 0'";

  plain = services: {
    systemd.services = lib.mapAttrs (
      _: service:
      service
      // {
        serviceConfig = {
          ExecStart = command;
        }
        // service.serviceConfig or { };
      }
    ) services;
  };
  with' =
    services: more:
    evaluate [
      ../module.nix
      { programs.reuseport = { inherit package; }; }
      (plain services)
      more
    ];
  of = services: with' services { };

  # The variables of a service that are ours or the loader's: NixOS adds its own.
  ours = lib.filterAttrs (
    name: _: name == "LD_PRELOAD" || builtins.match "LIBREUSEPORT_.*|SO_.*" name != null
  );
  variables = config: name: ours config.systemd.services.${name}.environment;
  environment = services: variables (of services) "web";
  # Those of ours: NixOS has more to say of a machine without a disk.
  isOurs = lib.hasPrefix "systemd.services.web.reuseport";
  complaints =
    config:
    map (one: one.message) (lib.filter (one: isOurs one.message && !one.assertion) config.assertions);
  refusals =
    service:
    complaints (of {
      web = on // service;
    });
  says =
    text:
    map (message: builtins.match ".*${text}.*" (lib.replaceStrings [ "\n" ] [ " " ] message) != null);
  on.reuseport.enable = true;

  everything.reuseport = {
    enable = true;
    addr = [
      "127.0.0.1"
      "10.0.0.0/8"
      "::1"
    ];
    port = [
      80
      "8000-8099"
    ];
    op = "both";
    proto = [
      "tcp"
      "udp"
    ];
    interface = "lo";
    program = [
      "nginx"
      "python3*"
    ];
    debug = true;
  };

  two = of {
    web.reuseport = {
      enable = true;
      port = 80;
    };
    dns.reuseport = {
      enable = true;
      port = 53;
      proto = "udp";
    };
    other = { };
  };

  untouched.other.environment = {
    LD_PRELOAD = "/other.so";
    LIBREUSEPORT_PORT = "80";
  };
in
{
  # The units that `systemd-analyze verify` is to accept.
  units = lib.mapAttrs (_: unit: unit.text) {
    "web.service" = (of { web = everything; }).systemd.units."web.service";
    "dns.service" = two.systemd.units."dns.service";
  };

  cdi =
    (with' { } {
      programs.reuseport.cdi = {
        enable = true;
        devices.dns = {
          port = 53;
          proto = "udp";
        };
      };
    }).environment.etc."cdi/reuseport.json".source;

  cases = {
    on = {
      actual = environment { web = on; };
      expected.LD_PRELOAD = shim;
    };

    everything = {
      actual = environment { web = everything; };
      expected = {
        LD_PRELOAD = shim;
        LIBREUSEPORT_ADDR = "127.0.0.1,10.0.0.0/8,::1";
        LIBREUSEPORT_PORT = "80,8000-8099";
        LIBREUSEPORT_OP = "3";
        LIBREUSEPORT_PROTO = "tcp,udp";
        LIBREUSEPORT_INTERFACE = "lo";
        LIBREUSEPORT_PROGRAM = "nginx,python3*";
        LIBREUSEPORT_DEBUG = "1";
      };
    };

    specifiers-are-quoted = {
      actual =
        (environment {
          web.reuseport = {
            enable = true;
            program = "a%n*";
          };
        }).LIBREUSEPORT_PROGRAM;
      expected = "a%%n*";
    };

    off-changes-nothing = {
      actual = (of untouched).systemd.units."other.service".text;
      expected = (evaluate [ (plain untouched) ]).systemd.units."other.service".text;
    };

    off-beside-one-that-is-on = {
      actual = variables two "other";
      expected = { };
    };

    two-differ = {
      actual = {
        web = variables two "web";
        dns = variables two "dns";
      };
      expected = {
        web = {
          LD_PRELOAD = shim;
          LIBREUSEPORT_PORT = "80";
        };
        dns = {
          LD_PRELOAD = shim;
          LIBREUSEPORT_PORT = "53";
          LIBREUSEPORT_PROTO = "udp";
        };
      };
    };

    joined = {
      actual = environment {
        web = on // {
          environment.LD_PRELOAD = "/other.so";
        };
      };
      expected.LD_PRELOAD = "/other.so:${shim}";
    };

    joined-with-every-services = {
      actual = variables (with' { web = on; } {
        systemd.globalEnvironment.LD_PRELOAD = "/global.so";
      }) "web";
      expected.LD_PRELOAD = "/global.so:${shim}";
    };

    joined-once = {
      actual = environment {
        web = on // {
          environment.LD_PRELOAD = "${shim} /other.so";
        };
      };
      expected.LD_PRELOAD = "${shim} /other.so";
    };

    joined-with-nothing = {
      actual = environment {
        web = on // {
          environment.LD_PRELOAD = null;
        };
      };
      expected.LD_PRELOAD = shim;
    };

    a-variable-of-the-users-stays = {
      actual = environment {
        web = on // {
          environment.LIBREUSEPORT_PORT = "80";
        };
      };
      expected = {
        LD_PRELOAD = shim;
        LIBREUSEPORT_PORT = "80";
      };
    };

    nothing-to-complain-of = {
      actual = refusals { serviceConfig.User = "web"; };
      expected = [ ];
    };

    confinement = {
      actual = says "confinement.enable hides the shim" (refusals {
        confinement = {
          enable = true;
          fullUnit = false;
          packages = [ ];
        };
      });
      expected = [ true ];
    };

    confinement-with-the-shim = {
      actual = refusals {
        confinement = {
          enable = true;
          fullUnit = false;
          packages = [ (lib.getLib package) ];
        };
      };
      expected = [ ];
    };

    root-directory = {
      actual = says "serviceConfig.RootDirectory hides the shim" (refusals {
        serviceConfig.RootDirectory = "/srv";
      });
      expected = [ true ];
    };

    root-directory-with-the-store = {
      actual = refusals {
        serviceConfig = {
          RootDirectory = "/srv";
          BindReadOnlyPaths = [ "-${builtins.storeDir}:${builtins.storeDir}:rbind" ];
        };
      };
      expected = [ ];
    };

    root-image = {
      actual = says "serviceConfig.RootImage hides the shim" (refusals {
        serviceConfig.RootImage = "/srv/image.raw";
      });
      expected = [ true ];
    };

    hidden-by-a-temporary-file-system = {
      actual = says "serviceConfig.TemporaryFileSystem" (refusals {
        serviceConfig.TemporaryFileSystem = "/nix:ro";
      });
      expected = [ true ];
    };

    inaccessible = {
      actual = says "serviceConfig.InaccessiblePaths" (refusals {
        serviceConfig.InaccessiblePaths = [
          "/home"
          "-/nix"
        ];
      });
      expected = [ true ];
    };

    not-executable = {
      actual = says "serviceConfig.NoExecPaths" (refusals {
        serviceConfig.NoExecPaths = "/";
      });
      expected = [ true ];
    };

    executable = {
      actual = refusals {
        serviceConfig = {
          NoExecPaths = "/";
          ExecPaths = builtins.storeDir;
        };
      };
      expected = [ ];
    };

    a-wrapper-of-security-wrappers = {
      actual = says "security.wrappers" (refusals {
        serviceConfig.ExecStart = "-/run/wrappers/bin/web --fast";
      });
      expected = [ true ];
    };

    set-by-service-config = {
      actual = says "serviceConfig.Environment sets LD_PRELOAD" (refusals {
        serviceConfig.Environment = [
          "A=1"
          "\"LD_PRELOAD=/other.so\""
        ];
      });
      expected = [ true ];
    };

    taken-away = {
      actual = says "serviceConfig.UnsetEnvironment takes LD_PRELOAD away" (refusals {
        serviceConfig.UnsetEnvironment = "LANG LD_PRELOAD";
      });
      expected = [ true ];
    };

    bound-by-systemd = {
      actual = says "sockets.web.socketConfig.ReusePort = true" (
        lib.filter isOurs (with' { web = on; } { systemd.sockets.web.listenStreams = [ "80" ]; }).warnings
      );
      expected = [ true ];
    };

    the-command = {
      actual =
        lib.elem package
          (with' { } { programs.reuseport.enable = true; }).environment.systemPackages;
      expected = true;
    };
  };
}
