# The flake's checks.
{
  pkgs,
  packages,
  self,
}:
let
  inherit (pkgs) lib;
  inherit (packages) reuseport;

  # NixOS where the package set has it, else the few options that the module touches.
  evaluate =
    modules:
    if pkgs ? nixos then
      (pkgs.nixos { imports = modules; }).config
    else
      (lib.evalModules {
        modules = [ ./nixos.nix ] ++ modules;
        specialArgs = { inherit pkgs; };
      }).config;

  module = import ./module.nix {
    inherit pkgs evaluate;
    module = self.nixosModules.default;
    package = reuseport;
  };
  failed = lib.filterAttrs (_: case: case.actual != case.expected) module.cases;
  taken = lib.filterAttrs (_: value: (builtins.tryEval (builtins.deepSeq value true)).success) (
    import ./refused.nix {
      inherit evaluate;
      package = reuseport;
    }
  );
in
{
  package = reuseport;

  # The same derivation, unless the overlay gives another.
  overlay = (pkgs.extend self.overlays.default).reuseport;

  # The units that the module writes, once every case is as expected.
  module = pkgs.runCommand "reuseport-module-test" { } (
    if failed != { } then
      throw "the module: ${builtins.toJSON failed}"
    else if taken != { } then
      throw "the module takes: ${toString (lib.attrNames taken)}"
    else
      ''
        mkdir "$out"
        ${lib.concatMapStringsSep "\n" (
          name: "cp ${pkgs.writeText name module.units.${name}} \"$out/${name}\""
        ) (lib.attrNames module.units)}
        cp ${pkgs.writeText "cdi.json" module.cdi} "$out/cdi.json"
      ''
  );

  image = import ./image.nix {
    inherit pkgs packages;
    inherit (self.lib) injectImage;
  };
}
// lib.optionalAttrs (pkgs ? testers.runNixOSTest) {
  vm = pkgs.testers.runNixOSTest ./vm.nix;
}
