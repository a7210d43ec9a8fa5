# The root file system of an image that runs nix/twice.c.
{ pkgs, ... }:
pkgs.runCommandCC "twice" { } ''
  mkdir -p "$out/bin"
  $CC -o "$out/bin/twice" ${../twice.c}
''
