/* A library whose constructor binds a socket before the program, and before any
   preloaded library's constructor. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

int early_reuseport = -1;

__attribute__((constructor)) static void early(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(18181)};
    socklen_t length = sizeof early_reuseport;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bind(fd, (struct sockaddr *)&address, sizeof address);
    getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &early_reuseport, &length);
    printf("constructor: reuseport=%d\n", early_reuseport);
}
