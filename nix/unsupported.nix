# What this flake gives on systems for which there is no shim: packages that
# evaluate, so that `nix flake show` and `nix flake check` pass everywhere, and that
# say why they are refused when somebody builds or runs them.
{ lib }:
let
  reasons = {
    aarch64-darwin = darwin;
    x86_64-darwin = darwin;
    armv7l-linux = bits;
    i686-linux = bits;
    riscv64-linux = assembly;
  };
  darwin = "SO_REUSEPORT shares connections among listeners in Linux alone";
  bits = "the shim has no assembly for 32-bit processors";
  assembly = "the shim has no assembly for it yet (shim/arch)";

  refuse =
    system: why:
    let
      reason = "reuseport has no shim for ${system}: ${why}; there is one for x86_64-linux and aarch64-linux";
      # Built by nobody, unless a version of Nix asks for none of the two below.
      refusal = derivation {
        inherit system;
        name = "reuseport-has-no-shim-for-${system}";
        builder = "/bin/sh";
        args = [
          "-c"
          "echo ${lib.escapeShellArg reason} >&2; exit 1"
        ];
      };
    in
    refusal
    // {
      outPath = throw reason;
      meta = {
        description = "Refused: ${why}";
        outputsToInstall = throw reason;
      };
    };
in
lib.mapAttrs (
  system: why:
  lib.genAttrs [
    "default"
    "reuseport"
    "reuseport-static"
    "shim"
  ] (_: refuse system why)
) reasons
