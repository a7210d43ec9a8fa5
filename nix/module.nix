# NixOS: systemd.services.<name>.reuseport, systemd.user.services.<name>.reuseport,
# programs.reuseport.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) types;
  rules = import ./rules.nix { inherit lib; };
  obstacles = import ./obstacles.nix { inherit lib; };
  socketsOf = import ./sockets.nix { inherit lib; };
  cdi = import ./cdi.nix { inherit lib; };
  # Why this machine has no shim, if so.
  refusal = (import ./platforms.nix { inherit lib; }).refusal pkgs.stdenv.hostPlatform;

  cfg = config.programs.reuseport;
  inherit (config.systemd) globalEnvironment;
  shimOf = package: "${lib.getLib package}/lib/libreuseport.so";

  # What the option sets. A unit's assignments expand specifiers, so that % is
  # written twice.
  wantedOf = service: lib.mapAttrs (_: lib.replaceStrings [ "%" ] [ "%%" ]) (rules.variables service);

  # A service's variables, `own` being those that it has without us; of those that
  # both set its own stay, which obstacles.nix complains of.
  withShim =
    service: own:
    let
      shim = shimOf service.package;
      # The service's variables replace those of all services.
      before = (globalEnvironment // own).LD_PRELOAD or null;
      entries = lib.concatMap (lib.splitString ":") (lib.splitString " " "${before}");
    in
    own
    // lib.filterAttrs (variable: _: (own.${variable} or null) == null) (wantedOf service)
    // {
      LD_PRELOAD =
        if before == null || before == "" then
          shim
        else if lib.elem shim entries then
          before
        else
          "${before}:${shim}";
    };

  services = lib.mkOption {
    type = types.attrsOf (
      types.submodule (
        { config, ... }:
        {
          options = {
            reuseport = rules.options // {
              enable = lib.mkEnableOption "sharing this service's ports among its copies, by the shim of reuseport";
              package = lib.mkOption {
                type = types.package;
                default = cfg.package;
                defaultText = lib.literalExpression "config.programs.reuseport.package";
                description = "The package whose shim is used.";
              };
            };
            # A definition that read LD_PRELOAD to add to it would read itself.
            environment = lib.mkOption {
              apply = own: if config.reuseport.enable then withShim config.reuseport own else own;
            };
          };
        }
      )
    );
  };

  # What `say` has to say of each service that has the option, the system's and those
  # of users.
  ofServices =
    say:
    lib.concatMap
      (
        path:
        let
          manager = lib.getAttrFromPath path config;
          optionOf =
            kind: name:
            lib.showOption (
              path
              ++ [
                kind
                name
              ]
            );
          of =
            name: service:
            map (message: "${optionOf "services" name}.reuseport.enable: ${message}.") (say {
              inherit name service optionOf;
              inherit (manager) sockets;
            });
        in
        lib.concatLists (
          lib.mapAttrsToList of (lib.filterAttrs (_: service: service.reuseport.enable) manager.services)
        )
      )
      [
        [ "systemd" ]
        [
          "systemd"
          "user"
        ]
      ];

  complaints =
    if refusal != null then
      lib.optional cfg.enable "programs.reuseport.enable: ${refusal}."
      ++ lib.optional cfg.cdi.enable "programs.reuseport.cdi.enable: ${refusal}."
      ++ ofServices (_: [ refusal ])
    else
      map (why: "programs.reuseport.cdi.devices: ${why}.") (
        lib.filter (why: why != null) (map cdi.refusal (lib.attrNames cfg.cdi.devices))
      )
      ++ ofServices (
        {
          name,
          service,
          optionOf,
          ...
        }:
        obstacles {
          inherit service;
          option = optionOf "services" name;
          shim = shimOf service.reuseport.package;
          wanted = wantedOf service.reuseport;
        }
      );
in
{
  options = {
    systemd = {
      inherit services;
      user = { inherit services; };
    };

    programs.reuseport = {
      enable = lib.mkEnableOption "the command reuseport, for all users";
      package = lib.mkOption {
        type = types.package;
        default = pkgs.reuseport or (pkgs.callPackage ./package.nix { });
        defaultText = lib.literalExpression "pkgs.reuseport";
        description = "The package of the command, and of the shim in services.";
      };
      cdi = {
        enable = lib.mkEnableOption "the shim as a device of container engines, /etc/cdi/reuseport.json";
        devices = lib.mkOption {
          type = types.attrsOf (types.submodule { inherit (rules) options; });
          default = { };
          example = {
            dns = {
              port = 53;
              proto = "udp";
            };
          };
          description = "Devices with rules, beside `reuseport.dev/shim=all`, which has none.";
        };
      };
    };
  };

  config = {
    assertions = map (message: {
      assertion = false;
      inherit message;
    }) complaints;

    warnings = ofServices (
      {
        name,
        service,
        optionOf,
        sockets,
      }:
      map
        (socket: ''
          systemd itself binds what ${socket}.socket listens on, and the shim does not see that.
          Set ${optionOf "sockets" socket}.socketConfig.ReusePort = true'')
        (socketsOf {
          inherit name service sockets;
        })
    );

    environment.systemPackages = lib.mkIf cfg.enable [ cfg.package ];

    environment.etc."cdi/reuseport.json" = lib.mkIf cfg.cdi.enable {
      text = cdi.text cfg.package cfg.cdi.devices;
    };
  };
}
