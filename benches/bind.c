/* Calls bind as often as its argument says, on one socket: the first call binds,
   the others fail, which costs the shim the same. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(18080)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int left = count > 1 ? atoi(arguments[1]) : 0; left > 0; left--)
        bind(fd, (struct sockaddr *)&address, sizeof address);
    return 0;
}
