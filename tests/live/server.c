/* A server: MODE PORT. It binds 127.0.0.1:PORT as MODE says and answers each
 * connection with its process id. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* bind(2) past the C library. */
static int raw_bind(int fd, const void *address, socklen_t length)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(49L), "D"((long)fd), "S"(address), "d"((long)length)
                     : "rcx", "r11", "memory");
    return (int)result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = 200;
    register long x0 __asm__("x0") = fd;
    register long x1 __asm__("x1") = (long)address;
    register long x2 __asm__("x2") = length;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return (int)x0;
#endif
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    const char *mode = arguments[1];
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(atoi(arguments[2])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const struct sockaddr *name = (struct sockaddr *)&address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (strcmp(mode, "alone") == 0) {
        /* As programs do that want to be the only one. */
        int probe = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(probe, name, sizeof address) == 0) {
            fprintf(stderr, "another one is running\n");
            return 3;
        }
        close(probe);
    }
    int bound = strcmp(mode, "raw") == 0 ? raw_bind(server, name, sizeof address)
                                         : bind(server, name, sizeof address);
    if (bound != 0) {
        fprintf(stderr, "address in use\n");
        return 1;
    }
    if (listen(server, 5) != 0)
        return 1;
    if (strcmp(mode, "background") == 0 && fork() != 0)
        return 0;
    if (strcmp(mode, "deaf") == 0)
        for (;;)
            pause();
    if (strcmp(mode, "brittle") == 0) {
        accept(server, NULL, NULL);
        fprintf(stderr, "that was too much\n");
        return 4;
    }
    for (;;) {
        int client = accept(server, NULL, NULL);
        dprintf(client, "%d\n", getpid());
        close(client);
    }
}
