# What the module makes of services: cases, each with what is expected of it.
# `evaluate` gives the configuration that a list of modules makes.
{
  pkgs,
  evaluate,
  module,
  package,
}:
let
  inherit (pkgs) lib;
  shim = "${lib.getLib package}/lib/libreuseport.so";
  store = builtins.storeDir;
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
      module
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
  isOurs = message: builtins.match ".*reuseport.*" message != null;
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
  confined =
    more:
    refusals {
      confinement = {
        enable = true;
        fullUnit = false;
        packages = [ ];
      }
      // more;
    };
  # What is said of sockets beside the services web and web@.
  warnings =
    sockets:
    lib.filter isOurs
      (with' {
        web = on;
        "web@" = on;
      } { systemd = { inherit sockets; }; }).warnings;
  devices =
    devices:
    with' { } {
      programs.reuseport.cdi = {
        enable = true;
        inherit devices;
      };
    };

  rules = {
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
  everything.reuseport = rules // {
    enable = true;
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

  # Settings, and what is said of a service that has them: null where nothing is.
  settings = {
    none = {
      unit.User = "web";
      says = null;
    };
    root-directory = {
      unit.RootDirectory = "/srv";
      says = "serviceConfig.RootDirectory hides the shim";
    };
    root-directory-unset = {
      unit.RootDirectory = "";
      says = null;
    };
    root-directory-with-the-store = {
      unit = {
        RootDirectory = "/srv";
        BindReadOnlyPaths = [ "-${store}:${store}:rbind" ];
      };
      says = null;
    };
    root-directory-with-the-shim = {
      unit = {
        RootDirectory = "/srv/";
        BindPaths = "${lib.getLib package}/";
      };
      says = null;
    };
    root-directory-with-the-store-elsewhere = {
      unit = {
        RootDirectory = "/srv";
        BindReadOnlyPaths = "${store}:/mnt";
      };
      says = "serviceConfig.RootDirectory hides the shim";
    };
    root-image = {
      unit.RootImage = "/srv/image.raw";
      says = "serviceConfig.RootImage hides the shim";
    };
    another-store = {
      unit.BindPaths = [ "/srv/store:${store}" ];
      says = "serviceConfig.BindPaths puts /srv/store at ${store}, over the shim";
    };
    another-store-below-ours = {
      unit = {
        BindPaths = "/srv:${builtins.dirOf store}";
        BindReadOnlyPaths = store;
      };
      says = null;
    };
    temporary-file-system = {
      unit.TemporaryFileSystem = "${builtins.dirOf store}:ro";
      says = "serviceConfig.TemporaryFileSystem hides the shim";
    };
    temporary-file-system-with-a-slash = {
      unit.TemporaryFileSystem = "${store}/";
      says = "serviceConfig.TemporaryFileSystem hides the shim";
    };
    temporary-file-system-over-what-is-bound = {
      unit = {
        TemporaryFileSystem = store;
        BindReadOnlyPaths = builtins.dirOf store;
      };
      says = "serviceConfig.TemporaryFileSystem hides the shim";
    };
    temporary-file-system-taken-back = {
      unit.TemporaryFileSystem = [
        store
        ""
        "/var"
      ];
      says = null;
    };
    inaccessible = {
      unit.InaccessiblePaths = [
        "/home"
        "-${builtins.dirOf store}"
      ];
      says = "serviceConfig.InaccessiblePaths hides the shim";
    };
    inaccessible-with-a-slash = {
      unit.InaccessiblePaths = "${store}/";
      says = "serviceConfig.InaccessiblePaths hides the shim";
    };
    inaccessible-beside-it = {
      unit.InaccessiblePaths = "${store}/other ${store}-other";
      says = null;
    };
    not-executable = {
      unit.NoExecPaths = "/";
      says = "serviceConfig.NoExecPaths keeps the loader";
    };
    executable = {
      unit = {
        NoExecPaths = "/";
        ExecPaths = store;
      };
      says = null;
    };
    executable-above = {
      unit = {
        NoExecPaths = store;
        ExecPaths = "/";
      };
      says = "serviceConfig.NoExecPaths keeps the loader";
    };
    a-wrapper-of-security-wrappers = {
      unit.ExecStart = "-/run/wrappers/bin/web --fast";
      says = "security.wrappers";
    };
    set-by-service-config = {
      unit.Environment = [
        "A=1"
        "\"LD_PRELOAD=/other.so\""
      ];
      says = "serviceConfig.Environment sets LD_PRELOAD";
    };
    taken-away = {
      unit.UnsetEnvironment = "LANG LD_PRELOAD";
      says = "serviceConfig.UnsetEnvironment takes LD_PRELOAD away";
    };
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

  # What `reuseport cdi` is to print for the same devices.
  cdi =
    (devices {
      dns = {
        port = 53;
        proto = "udp";
      };
      "a.b:c_d" = rules;
    }).environment.etc."cdi/reuseport.json".text;

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

    joined-with-a-file = {
      actual = environment {
        web = on // {
          environment.LD_PRELOAD = ./root.nix;
        };
      };
      expected.LD_PRELOAD = "${./root.nix}:${shim}";
    };

    joined-with-a-forced-one = {
      actual = variables (with' {
        web = on // {
          environment.LD_PRELOAD = "/other.so";
        };
      } { systemd.services.web.environment = lib.mkForce { LD_PRELOAD = "/forced.so"; }; }) "web";
      expected.LD_PRELOAD = "/forced.so:${shim}";
    };

    lists-of-several-modules = {
      actual = variables (with' { web = everything; } {
        systemd.services.web.reuseport = {
          port = 443;
          proto = "tcp";
        };
      }) "web";
      expected = variables (of { web = everything; }) "web" // {
        LIBREUSEPORT_PORT = "80,8000-8099,443";
        LIBREUSEPORT_PROTO = "tcp,udp,tcp";
      };
    };

    a-template = {
      actual = variables (of { "web@" = on; }) "web@";
      expected.LD_PRELOAD = shim;
    };

    a-service-of-users = {
      actual =
        let
          config = with' { } {
            systemd.user.services = {
              web = on // {
                serviceConfig.ExecStart = command;
              };
              hidden = on // {
                serviceConfig.RootDirectory = "/srv";
              };
            };
          };
        in
        {
          environment = ours config.systemd.user.services.web.environment;
          complaints = says "systemd.user.services.hidden.reuseport.enable: serviceConfig.RootDirectory" (
            complaints config
          );
        };
      expected = {
        environment.LD_PRELOAD = shim;
        complaints = [ true ];
      };
    };

    set-twice-otherwise = {
      actual = says "systemd.services.web.environment both set LIBREUSEPORT_PORT" (refusals {
        reuseport = {
          enable = true;
          port = 80;
        };
        environment.LIBREUSEPORT_PORT = "81";
      });
      expected = [ true ];
    };

    set-twice-to-the-same = {
      actual = refusals {
        reuseport = {
          enable = true;
          program = "a%n*";
        };
        environment.LIBREUSEPORT_PROGRAM = "a%%n*";
      };
      expected = [ ];
    };

    set-to-null = {
      actual = environment {
        web = {
          reuseport = {
            enable = true;
            port = 80;
          };
          environment.LIBREUSEPORT_PORT = null;
        };
      };
      expected = {
        LD_PRELOAD = shim;
        LIBREUSEPORT_PORT = "80";
      };
    };

    confinement = {
      actual = says "confinement.enable hides the shim.*systemd.services.web.reuseport.package.lib" (
        confined { }
      );
      expected = [ true ];
    };

    confinement-with-all = {
      actual = confined { fullUnit = true; };
      expected = [ ];
    };

    confinement-with-the-shim = {
      actual = confined { packages = [ (lib.getLib package) ]; };
      expected = [ ];
    };

    confinement-with-the-command = {
      actual = confined { packages = [ "${package}/bin/reuseport --version" ]; };
      expected = [ ];
    };

    # What NixOS sets for the service itself.
    confinement-with-its-own-root = {
      actual = refusals {
        confinement = {
          enable = true;
          fullUnit = false;
          packages = [ package ];
        };
        serviceConfig = {
          RootDirectory = "/var/empty";
          TemporaryFileSystem = "/";
        };
      };
      expected = [ ];
    };

    confinement-with-the-shim-bound = {
      actual = refusals {
        confinement = {
          enable = true;
          fullUnit = false;
          packages = [ ];
        };
        serviceConfig.BindReadOnlyPaths = [ "${lib.getLib package}" ];
      };
      expected = [ ];
    };

    # All that is wrong is said at once.
    confinement-with-more-that-is-wrong = {
      actual = builtins.length (refusals {
        reuseport = {
          enable = true;
          port = 80;
        };
        confinement = {
          enable = true;
          fullUnit = false;
          packages = [ ];
        };
        environment.LIBREUSEPORT_PORT = "81";
        serviceConfig.UnsetEnvironment = "LD_PRELOAD";
      });
      expected = 3;
    };

    another-platform = {
      actual =
        let
          other =
            arguments:
            import ../module.nix (
              arguments
              // {
                pkgs = {
                  stdenv.hostPlatform = lib.systems.elaborate "riscv64-linux";
                  callPackage = throw "nothing is asked of a package";
                };
              }
            );
          config = evaluate [
            other
            (plain { web = on; })
            {
              programs.reuseport = {
                enable = true;
                cdi.enable = true;
              };
            }
          ];
          reason = ": reuseport has no shim for riscv64-linux: ";
        in
        map (message: builtins.head (lib.splitString reason message)) (complaints config);
      expected = [
        "programs.reuseport.enable"
        "programs.reuseport.cdi.enable"
        "systemd.services.web.reuseport.enable"
      ];
    };

    bound-by-systemd = {
      actual =
        says "systemd.services.web.reuseport.enable: .* systemd.sockets.web.socketConfig.ReusePort = true"
          (warnings {
            web.listenStreams = [ "80" ];
          });
      expected = [ true ];
    };

    bound-by-systemd-under-another-name = {
      actual =
        says "systemd.services.web.reuseport.enable: .* systemd.sockets.front.socketConfig.ReusePort"
          (warnings {
            front = {
              listenDatagrams = [ "[::1]:53" ];
              socketConfig.Service = "web.service";
            };
          });
      expected = [ true ];
    };

    bound-by-systemd-for-each-connection = {
      actual = says "systemd.services.\"web@\".reuseport.enable: " (warnings {
        web.socketConfig = {
          ListenStream = 80;
          Accept = true;
        };
      });
      expected = [ true ];
    };

    bound-by-systemd-and-shared = {
      actual = warnings {
        web = {
          listenStreams = [ "80" ];
          socketConfig.ReusePort = true;
        };
        front = {
          listenStreams = [ "81" ];
          socketConfig = {
            ReusePort = "Yes";
            Service = "web.service";
          };
        };
      };
      expected = [ ];
    };

    bound-by-systemd-to-a-path = {
      actual = warnings {
        web.listenStreams = [
          "/run/web.sock"
          "%t/web"
          "@web"
          "vsock:2:80"
        ];
      };
      expected = [ ];
    };

    bound-by-systemd-for-others = {
      actual = warnings { other.listenStreams = [ "80" ]; };
      expected = [ ];
    };

    devices-with-wrong-names = {
      actual = says "programs.reuseport.cdi.devices: '(all|b d)'" (
        complaints (devices {
          all = { };
          "b d" = { };
          fine = { };
        })
      );
      expected = [
        true
        true
      ];
    };

    the-command = {
      actual =
        lib.elem package
          (with' { } { programs.reuseport.enable = true; }).environment.systemPackages;
      expected = true;
    };
  }
  // lib.mapAttrs (
    _: one:
    let
      said = refusals { serviceConfig = one.unit; };
    in
    if one.says == null then
      {
        actual = said;
        expected = [ ];
      }
    else
      {
        actual = says one.says said;
        expected = [ true ];
      }
  ) settings;
}
