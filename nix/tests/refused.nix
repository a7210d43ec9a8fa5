# Options that are set wrongly. Each value fails as it is evaluated.
{ evaluate, package }:
let
  service =
    definition:
    (evaluate [
      ../module.nix
      {
        programs.reuseport = { inherit package; };
        systemd.services.web = definition // {
          reuseport = {
            enable = true;
          }
          // definition.reuseport;
        };
      }
    ]).systemd.services.web.environment;
  rules = reuseport: service { inherit reuseport; };
in
{
  addr = rules { addr = "localhost"; };
  port = rules { port = 65536; };
  port-range = rules { port = [ "2-1" ]; };
  ports = rules { port = builtins.genList (port: port) 65; };
  op = rules { op = "4"; };
  proto = rules { proto = [ "sctp" ]; };
  interface = rules { interface = "a/b"; };
  program = rules { program = "a/b"; };
  debug = rules { debug = "yes"; };
  package = rules { package = "reuseport"; };
  unknown = rules { ports = 80; };
  both = service {
    reuseport.port = 80;
    environment.LIBREUSEPORT_PORT = "81";
  };
}
