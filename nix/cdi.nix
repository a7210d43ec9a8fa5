# The Container Device Interface's file, as `reuseport cdi` prints it: the tests
# compare the two. Written here so that a build for another machine needs no program
# that runs on this one.
{ lib }:
let
  rules = import ./rules.nix { inherit lib; };
in
{
  # What is wrong with a device's name; null where nothing is.
  refusal =
    name:
    if name == "all" then
      "'all' is the device with no rules, and there already"
    else if builtins.match "[A-Za-z]([A-Za-z0-9_.:-]*[A-Za-z0-9])?" name == null then
      "'${name}': a device's name is made of letters, digits and _-.:, begins with a letter, and ends with a letter or digit"
    else
      null;

  # The text, for the shim of a package and devices by name.
  text =
    package: devices:
    let
      device = name: variables: {
        inherit name;
        containerEdits = {
          env = [
            "LD_PRELOAD=/.reuseport/libreuseport.so"
          ]
          ++ lib.mapAttrsToList (variable: value: "${variable}=${value}") variables;
          mounts = [
            {
              hostPath = "${lib.getLib package}/lib";
              containerPath = "/.reuseport";
              options = [
                "bind"
                "ro"
                "nosuid"
                "nodev"
              ];
            }
          ];
        };
      };
    in
    builtins.toJSON {
      cdiVersion = "0.3.0";
      kind = "reuseport.dev/shim";
      devices = [
        (device "all" { })
      ]
      ++ lib.mapAttrsToList (name: rule: device name (rules.variables rule)) devices;
    };
}
