/* A server of one thread whose answers take 2 ms. The first two are 503 with the body
 * `n`, the others 200 with `y`: whoever is not asked for its readiness must not see
 * the former. Argument: the port. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(count > 1 ? atoi(arguments[1]) : 0),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    signal(SIGPIPE, SIG_IGN);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("storm");
        return 1;
    }
    for (int number = 0;; number += number < 2) {
        char buffer[4096];
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        ssize_t length = read(connection, buffer, sizeof buffer);
        usleep(2000);
        const char *status = number < 2 ? "503 Not Yet" : "200 OK";
        int size = snprintf(buffer, sizeof buffer,
                            "HTTP/1.1 %s\r\nContent-Length: 1\r\nConnection: close\r\n\r\n%c",
                            status, number < 2 ? 'n' : 'y');
        if (length > 0)
            length = write(connection, buffer, size);
        close(connection);
    }
}
