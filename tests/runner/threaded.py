# A threaded server whose answers take 20 ms, or PAUSE seconds, and that dies at once
# on SIGTERM. Where BECOME is a user, it is that one once it listens.
# Arguments: the port, and a file that says what is to go wrong, and in which slot if
# not in all.
import os, socketserver, sys, time

port = int(sys.argv[1])
trouble = sys.argv[2] if len(sys.argv) > 2 else ""
if trouble and os.path.exists(trouble):
    how, _, slot = open(trouble).read().strip().partition(" ")
    if slot and slot != os.environ["REUSEPORT_SLOT"]:
        how = ""
    if how == "exit":
        sys.exit(3)
    if how == "hang":
        open(trouble + ".hangs", "w").close()
        time.sleep(1000)
    if how == "elsewhere":
        port += 1


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(4096)
        time.sleep(float(os.environ.get("PAUSE", "0.02")))
        body = os.environ.get("REUSEPORT_SLOT", "-").encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.request.sendall(head + body)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    request_queue_size = 128
    daemon_threads = True


server = Server(("127.0.0.1", port), Handler)
if "BECOME" in os.environ:
    os.setuid(int(os.environ["BECOME"]))
server.serve_forever()
