// A server whose first thread is cancelled while it waits in accept(2), and must
// clean up behind itself; then it serves, by accept and accept4 in turn, in a child.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener;

static void clean(int *unused) {
    (void)unused;
    fputs("cleaned\n", stderr);
}

static void *wait_forever(void *unused) {
    // What -fexceptions makes of it is found by unwinding alone, as a destructor is.
    __attribute__((cleanup(clean))) int guard = 0;
    accept(listener, NULL, NULL);
    return unused;
}

int main(int count, char **arguments) {
    if (count != 2)
        return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t thread;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64) ||
        pthread_create(&thread, NULL, wait_forever, NULL))
        return 1;
    sleep(1);
    void *result = NULL;
    pthread_cancel(thread);
    pthread_join(thread, &result);
    fputs(result == PTHREAD_CANCELED ? "was cancelled\n" : "has returned\n", stderr);
    if (fork())
        pause();
    for (unsigned turn = 0;; turn++) {
        int connection =
            turn % 2 ? accept(listener, NULL, NULL) : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char buffer[512];
        if (read(connection, buffer, sizeof buffer) > 0)
            write(connection, "x", 1);
        close(connection);
    }
}
