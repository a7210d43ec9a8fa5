# Options that are set wrongly. Each value fails as it is evaluated.
{ evaluate, package }:
let
  # What several modules define of one service.
  all =
    definitions:
    (evaluate (
      [
        ../module.nix
        { programs.reuseport = { inherit package; }; }
        { systemd.services.web.reuseport.enable = true; }
      ]
      ++ map (reuseport: { systemd.services.web = { inherit reuseport; }; }) definitions
    )).systemd.services.web.environment;
  rules = reuseport: all [ reuseport ];
in
{
  addr = rules { addr = "localhost"; };
  port = rules { port = 65536; };
  port-range = rules { port = [ "2-1" ]; };
  ports = rules { port = builtins.genList (port: port) 65; };
  ports-of-two = all [
    { port = builtins.genList (port: port) 40; }
    { port = builtins.genList (port: port + 100) 40; }
  ];
  op = rules { op = "4"; };
  proto = rules { proto = [ "sctp" ]; };
  interface = rules { interface = "a/b"; };
  program = rules { program = "a/b"; };
  programs-of-two = all [
    { program = builtins.genList (_: "a*") 9; }
    { program = builtins.genList (_: "b*") 9; }
  ];
  debug = rules { debug = "yes"; };
  package = rules { package = "reuseport"; };
  unknown = rules { ports = 80; };
}
