# Which values the options take: the tests hold this against the program's parser.
{ lib, values }:
let
  rules = import ../rules.nix { inherit lib; };
  take =
    option: value:
    let
      config =
        (lib.evalModules {
          modules = [
            { inherit (rules) options; }
            { ${option} = value; }
          ];
        }).config;
    in
    (builtins.tryEval (builtins.deepSeq config.${option} true)).value;
in
lib.mapAttrs (option: map (take option)) values
