{
  description = "Run any Linux server, unmodified, more than once on one port";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forSystems = lib.genAttrs (import ./nix/platforms.nix { inherit lib; }).systems;
      unsupported = import ./nix/unsupported.nix { inherit lib; };
      forPackages = f: forSystems (system: f nixpkgs.legacyPackages.${system} self.packages.${system});
    in
    {
      packages =
        unsupported.packages
        // forSystems (
          system:
          let
            pkgs = nixpkgs.legacyPackages.${system};
            reuseport = pkgs.callPackage ./nix/package.nix { };
          in
          {
            inherit reuseport;
            default = reuseport;
            shim = reuseport.lib;
            reuseport-static = pkgs.pkgsStatic.callPackage ./nix/package.nix { };
          }
        );

      apps = forPackages (
        _: packages: {
          default = {
            type = "app";
            program = lib.getExe packages.reuseport;
            meta.description = "Run a server under the shim: nix run . -- server";
          };
        }
      );

      overlays.default = final: _: { reuseport = final.callPackage ./nix/package.nix { }; };

      nixosModules.default.imports = [ ./nix/module.nix ];

      lib.injectImage = import ./nix/image.nix;

      devShells =
        unsupported.devShells
        // forPackages (
          pkgs: packages: {
            default = pkgs.mkShell {
              inputsFrom = [ packages.reuseport ];
              packages = [
                pkgs.clippy
                pkgs.rustfmt
              ];
            };
          }
        );

      formatter = forPackages (pkgs: _: pkgs.nixfmt-tree);

      checks = forPackages (pkgs: packages: import ./nix/tests { inherit pkgs packages self; });
    };
}
