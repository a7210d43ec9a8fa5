# The options of NixOS that the module touches, for a lib without NixOS; units are
# written as nixos/lib/systemd-lib.nix writes them.
{ config, lib, ... }:
let
  inherit (lib) types;
  any =
    default:
    lib.mkOption {
      type = types.unspecified;
      inherit default;
    };
  assignments =
    set:
    lib.concatMapStringsSep "" (
      name: lib.concatMapStringsSep "" (value: "${name}=${toString value}\n") (lib.toList set.${name})
    ) (lib.attrNames set);
  unit =
    service:
    let
      environment = config.systemd.globalEnvironment // service.environment;
      set = lib.filter (name: environment.${name} != null) (lib.attrNames environment);
    in
    "[Service]\n"
    + lib.concatMapStringsSep "" (
      name: "Environment=${builtins.toJSON "${name}=${environment.${name}}"}\n"
    ) set
    + assignments service.serviceConfig;

  services =
    more:
    lib.mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            environment = lib.mkOption {
              type = types.attrsOf (
                types.nullOr (
                  types.oneOf [
                    types.str
                    types.path
                    types.package
                  ]
                )
              );
              default = { };
            };
            serviceConfig = lib.mkOption {
              type = types.attrsOf types.unspecified;
              default = { };
            };
            wantedBy = any [ ];
          }
          // more;
        }
      );
      default = { };
    };
  sockets = lib.mkOption {
    type = types.attrsOf (
      types.submodule {
        options = {
          listenStreams = any [ ];
          listenDatagrams = any [ ];
          socketConfig = any { };
          wantedBy = any [ ];
        };
      }
    );
    default = { };
  };
in
{
  options = {
    assertions = any [ ];
    warnings = any [ ];
    environment.systemPackages = any [ ];
    environment.etc = lib.mkOption {
      type = types.attrsOf types.unspecified;
      default = { };
    };
    systemd.globalEnvironment = any { };
    systemd.units = any { };
    systemd.sockets = sockets;
    systemd.services = services {
      confinement = any {
        enable = false;
        fullUnit = false;
        packages = [ ];
      };
    };
    systemd.user.sockets = sockets;
    systemd.user.services = services { };
  };
  config.systemd.units = builtins.listToAttrs (
    lib.mapAttrsToList (name: service: {
      name = "${name}.service";
      value.text = unit service;
    }) config.systemd.services
  );
}
