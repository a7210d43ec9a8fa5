# Two services of one server on one port, and a rolling restart while clients ask.
{ lib, ... }:
let
  copies = [
    "a"
    "b"
  ];
  # One process, one thread, told to share nothing.
  server = copy: ''
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"${copy}")

        def log_message(self, *_):
            pass

    class Server(http.server.HTTPServer):
        allow_reuse_address = False
        allow_reuse_port = False

    Server(("0.0.0.0", 8000), Handler).serve_forever()
  '';
in
{
  name = "reuseport";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ ../module.nix ];

      programs.reuseport = {
        enable = true;
        cdi.enable = true;
      };

      # A listener that is closed hands what waits for it to the others.
      boot.kernel.sysctl."net.ipv4.tcp_migrate_req" = 1;

      environment.systemPackages = [ pkgs.curl ];

      users.groups.web = { };
      users.users.web = {
        isSystemUser = true;
        group = "web";
      };

      systemd.services =
        lib.genAttrs (map (copy: "web-${copy}") copies) (name: {
          wantedBy = [ "multi-user.target" ];
          serviceConfig = {
            # The kernel lets sockets of one user alone share a port.
            User = "web";
            ExecStart = "${pkgs.python3}/bin/python3 ${pkgs.writeText "server.py" (server (lib.removePrefix "web-" name))}";
          };
          reuseport = {
            enable = true;
            port = 8000;
          };
        })
        // {
          # The same server without the option: the port is taken.
          web-alone = {
            serviceConfig = {
              User = "web";
              ExecStart = "${pkgs.python3}/bin/python3 ${pkgs.writeText "server.py" (server "alone")}";
            };
          };
        };
    };

  testScript = ''
    def answers(count):
        return machine.succeed(
            f"for i in $(seq {count}); do curl --silent --show-error --fail http://127.0.0.1:8000/; done"
        )

    def wait_for_answer_of(copy):
        # A unit of this type is started before its server listens.
        machine.wait_until_succeeds(
            f"for i in $(seq 50); do curl --silent http://127.0.0.1:8000/; done | grep {copy}"
        )

    for copy in ["a", "b"]:
        machine.wait_for_unit(f"web-{copy}.service")
        wait_for_answer_of(copy)

    with subtest("both services answer on one port"):
        assert set(answers(100)) == {"a", "b"}

    with subtest("the command says that the shim is in both"):
        for copy in ["a", "b"]:
            machine.succeed(
                f"reuseport check --pid $(systemctl show --property MainPID --value web-{copy})"
            )

    with subtest("without the option the port is taken"):
        machine.systemctl("start web-alone")
        machine.wait_until_fails("systemctl is-active web-alone")

    with subtest("a rolling restart refuses no connection"):
        for _ in range(4):
            machine.execute(
                "(while [ ! -e /tmp/stop ]; do curl --silent --show-error --output /dev/null"
                " http://127.0.0.1:8000/ 2>>/tmp/errors; echo >>/tmp/asked; done) >&2 &"
            )
        for copy in ["a", "b", "a", "b"]:
            machine.succeed(f"systemctl restart web-{copy}")
            wait_for_answer_of(copy)
        machine.succeed("touch /tmp/stop")
        machine.succeed("test $(wc -l </tmp/asked) -gt 50")
        errors = machine.succeed("cat /tmp/errors")
        assert "refused" not in errors.lower(), errors

    with subtest("container engines find the device"):
        machine.succeed("grep reuseport.dev/shim /etc/cdi/reuseport.json")
  '';
}
