/* Binds two listening sockets to one port, which succeeds under the shim alone:
   the second bind fails unless both sockets have SO_REUSEPORT. The kernel
   chooses the port, so that nothing else can be in the way; that the shim acts
   on such a bind takes LIBREUSEPORT_PORT=0-65535. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;

    for (int copy = 1; copy <= 2; copy++) {
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&address, length) != 0) {
            fprintf(stderr, "bind %d: ", copy);
            perror(NULL);
            return copy;
        }
        if (listen(listener, 1) != 0 ||
            getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
            perror("listen");
            return 3;
        }
    }
    return 0;
}
