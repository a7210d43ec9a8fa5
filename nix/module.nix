# NixOS: systemd.services.<name>.reuseport, programs.reuseport.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) types;
  rules = import ./rules.nix { inherit lib; };
  cfg = config.programs.reuseport;
  inherit (config.systemd) globalEnvironment;
  shimOf = package: "${lib.getLib package}/lib/libreuseport.so";
  store = builtins.storeDir;

  # A service's variables, `own` being those that it has without us. A unit's
  # assignments expand specifiers, so that % is written twice.
  withShim =
    name: service: own:
    let
      wanted = lib.mapAttrs (_: lib.replaceStrings [ "%" ] [ "%%" ]) (rules.variables service);
      both = lib.filter (variable: (own.${variable} or null) != null) (lib.attrNames wanted);
      shim = shimOf service.package;
      # The service's variables replace those of all services.
      before = (globalEnvironment // own).LD_PRELOAD or null;
      entries = lib.concatMap (lib.splitString ":") (lib.splitString " " "${before}");
    in
    if both != [ ] then
      throw ''
        systemd.services.${name}.environment.${lib.head both} and systemd.services.${name}.reuseport
        both set ${lib.concatStringsSep ", " both}. Leave it to one of them.''
    else
      own
      // wanted
      // {
        LD_PRELOAD =
          if before == null || before == "" then
            shim
          else if lib.elem shim entries then
            before
          else
            "${before}:${shim}";
      };

  ours = lib.filterAttrs (_: service: service.reuseport.enable) config.systemd.services;

  # What keeps the shim from the service's processes: a message each.
  obstacles =
    name: service:
    let
      unit = service.serviceConfig;
      shim = lib.getLib service.reuseport.package;
      confinement = service.confinement or { enable = false; };
      variables = [ "LD_PRELOAD" ] ++ lib.attrNames (rules.variables service.reuseport);

      # A setting's words, whether it is one text or several.
      words =
        setting:
        lib.filter (word: word != "") (
          lib.concatMap (text: lib.splitString " " (toString text)) (lib.toList (unit.${setting} or [ ]))
        );
      # The same as paths: without prefixes that say how, and what follows a colon.
      paths =
        setting:
        map (word: lib.head (lib.splitString ":" (lib.removePrefix "+" (lib.removePrefix "-" word)))) (
          words setting
        );
      hasOneOf = places: setting: lib.any (path: lib.elem path places) (paths setting);

      holdTheStore = [
        "/nix"
        store
      ];
      coversTheStore = hasOneOf (holdTheStore ++ [ "/" ]);
      bindsTheShim = hasOneOf (
        holdTheStore
        ++ [
          "${shim}"
          (shimOf shim)
        ]
      );
      isBound = bindsTheShim "BindPaths" || bindsTheShim "BindReadOnlyPaths";
      isConfinedWithIt = confinement.fullUnit || lib.elem "${shim}" (map toString confinement.packages);
      hasRoot = setting: unit ? ${setting} && toString unit.${setting} != "/";
      isAssigned =
        variable: lib.any (word: builtins.match "[\"']?${variable}=.*" word != null) (words "Environment");
      isUnset = variable: lib.elem variable (words "UnsetEnvironment");
      isWrapper = command: builtins.match "[-@:+!|]*/run/wrappers/bin/.*" (toString command) != null;

      hides =
        setting:
        "serviceConfig.${setting} hides the shim from it. Add ${store} to serviceConfig.BindReadOnlyPaths";
    in
    if confinement.enable then
      lib.optional (!isConfinedWithIt) ''
        confinement.enable hides the shim from it. Set confinement.fullUnit, or add
        systemd.services.${name}.reuseport.package.lib to confinement.packages''
    else
      map hides (
        lib.optionals (!isBound) (
          lib.filter hasRoot [
            "RootDirectory"
            "RootImage"
          ]
          ++ lib.filter coversTheStore [ "TemporaryFileSystem" ]
        )
      )
      ++ lib.optional (coversTheStore "InaccessiblePaths") "serviceConfig.InaccessiblePaths hides the shim from it. Take ${store} and what is above it out of there"
      ++
        lib.optional (coversTheStore "NoExecPaths" && !coversTheStore "ExecPaths")
          "serviceConfig.NoExecPaths keeps the loader from mapping the shim. Add ${store} to serviceConfig.ExecPaths"
      ++ lib.optional (lib.any isWrapper (lib.toList (unit.ExecStart or [ ]))) ''
        serviceConfig.ExecStart is a wrapper of security.wrappers, for which the loader ignores LD_PRELOAD.
        Run the program itself, with serviceConfig.AmbientCapabilities''
      ++ map (variable: ''
        serviceConfig.Environment sets ${variable}, which takes the place of what the option sets.
        Use systemd.services.${name}.environment.${variable}'') (lib.filter isAssigned variables)
      ++ map (variable: "serviceConfig.UnsetEnvironment takes ${variable} away. Take it out of there") (
        lib.filter isUnset variables
      );
in
{
  options = {
    systemd.services = lib.mkOption {
      type = types.attrsOf (
        types.submodule (
          { name, config, ... }:
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
                apply = own: if config.reuseport.enable then withShim name config.reuseport own else own;
              };
            };
          }
        )
      );
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
    assertions = lib.concatLists (
      lib.mapAttrsToList (
        name: service:
        map (message: {
          assertion = false;
          message = "systemd.services.${name}.reuseport.enable: ${message}.";
        }) (obstacles name service)
      ) ours
    );

    warnings = lib.concatLists (
      lib.mapAttrsToList (
        name: _:
        lib.optional (config.systemd.sockets ? ${name}) ''
          systemd.services.${name}.reuseport.enable: systemd itself binds what ${name}.socket listens on, and
          the shim does not see that. Set systemd.sockets.${name}.socketConfig.ReusePort = true.''
      ) ours
    );

    environment.systemPackages = lib.mkIf cfg.enable [ cfg.package ];

    environment.etc."cdi/reuseport.json" = lib.mkIf cfg.cdi.enable {
      source = pkgs.runCommand "reuseport-cdi.json" { nativeBuildInputs = [ cfg.package ]; } ''
        reuseport cdi --shim-path ${shimOf cfg.package} ${
          lib.escapeShellArgs (
            lib.mapAttrsToList (
              name: device: "--device=${name}=${lib.concatStringsSep " " (rules.flags device)}"
            ) cfg.cdi.devices
          )
        } >"$out"
      '';
    };
  };
}
