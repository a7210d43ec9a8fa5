/* A server: MODE PORT. It binds 127.0.0.1:PORT, does as MODE says, and waits. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
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
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&address, sizeof address) != 0)
        return 1;

    if (strcmp(mode, "bound") == 0)
        wait_for_ever(NULL);
    if (strcmp(mode, "cleared") == 0)
        setsockopt(server, SOL_SOCKET, SO_REUSEPORT, &(int){0}, sizeof(int));
    if (strcmp(mode, "title") == 0) {
        /* As setproctitle(3) does: over the arguments and the environment. */
        char *last = arguments[0];
        for (char **entry = environ; *entry; entry++)
            last = *entry + strlen(*entry);
        memset(arguments[0], 0, last - arguments[0]);
        strcpy(arguments[0], "a title");
    }
    if (listen(server, 8) != 0)
        return 1;
    if (strcmp(mode, "leaderless") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, wait_for_ever, NULL);
        pthread_exit(NULL);
    }
    wait_for_ever(NULL);
}
