# A threaded server whose answers take 20 ms, and that dies at once on SIGTERM.
# Arguments: the port, and what is to go wrong.
import os, socketserver, sys, time

port = int(sys.argv[1])
trouble = sys.argv[2] if len(sys.argv) > 2 else ""
if trouble and os.path.exists(trouble):
    how = open(trouble).read().strip()
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
        time.sleep(0.02)
        body = os.environ.get("REUSEPORT_SLOT", "-").encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.request.sendall(head + body)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("127.0.0.1", port), Handler).serve_forever()
