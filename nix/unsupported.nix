# What this flake gives on systems for which there is no shim: packages that
# evaluate, so that `nix flake show` and `nix flake check` pass everywhere, and that
# say why they are refused when somebody builds or runs them.
{ lib }:
let
  platforms = import ./platforms.nix { inherit lib; };
  systems = lib.subtractLists platforms.systems lib.systems.flakeExposed;

  refuse =
    system: more:
    let
      reason = platforms.refusal (lib.systems.elaborate system);
      # Built by nobody, unless a version of Nix asks for none of the two below.
      refusal = derivation (
        {
          inherit system;
          name = "reuseport-has-no-shim-for-${system}";
          builder = "/bin/sh";
          args = [
            "-c"
            "echo ${lib.escapeShellArg reason} >&2; exit 1"
          ];
        }
        // more
      );
    in
    refusal
    // {
      outPath = throw reason;
      meta = {
        description = reason;
        outputsToInstall = throw reason;
      };
    };
in
{
  packages = lib.genAttrs systems (
    system:
    lib.genAttrs [
      "default"
      "reuseport"
      "reuseport-static"
      "shim"
    ] (_: refuse system { })
  );

  # Nix takes a shell's environment from bash alone.
  devShells = lib.genAttrs systems (system: {
    default = refuse system { builder = "/bin/bash"; };
  });
}
