/* Binds sockets in the ways that programs do, and prints what became of each:
   one line a bind, "RESULT reuseport=N reuseaddr=N device=NAME". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

extern char **environ;

/* error_name(3), which musl lacks. */
static const char *error_name(int error) {
    switch (error) {
    case EADDRINUSE: return "EADDRINUSE";
    case EAFNOSUPPORT: return "EAFNOSUPPORT";
    case EBADF: return "EBADF";
    case EFAULT: return "EFAULT";
    case EINVAL: return "EINVAL";
    case ENODEV: return "ENODEV";
    default: return strerror(error);
    }
}

static int option(int fd, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, SOL_SOCKET, name, &value, &length);
    return value;
}

static void report(int fd, int result, int error) {
    char device[16] = "";
    socklen_t length = sizeof device;
    getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &length);
    printf("%s reuseport=%d reuseaddr=%d device=%s\n", result ? error_name(error) : "ok",
           option(fd, SO_REUSEPORT), option(fd, SO_REUSEADDR), device);
}

/* A socket of the kind that `word` names. */
static int open_socket(int family, const char *word) {
    int fd = !strcmp(word, "tcp")     ? socket(family, SOCK_STREAM, 0)
             : !strcmp(word, "udp")   ? socket(family, SOCK_DGRAM, 0)
             : !strcmp(word, "mptcp") ? socket(family, SOCK_STREAM, IPPROTO_MPTCP)
             : !strcmp(word, "raw")   ? socket(family, SOCK_RAW, 99)
                                      : -1;
    if (fd < 0) {
        perror(word);
        exit(3);
    }
    return fd;
}

/* The address that `text` names; gives its length. */
static socklen_t parse(const char *text, const char *port, struct sockaddr_storage *address) {
    struct sockaddr_in *in = (void *)address;
    struct sockaddr_in6 *in6 = (void *)address;
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(atoi(port));
        return sizeof *in;
    }
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(atoi(port));
        return sizeof *in6;
    }
    exit(3);
}

/* bind KIND ADDRESS PORT: one socket. errno is set beforehand, and must be as it
   was after a success. */
static int do_bind(int by_syscall, char **arguments) {
    struct sockaddr_storage address;
    socklen_t length = parse(arguments[1], arguments[2], &address);
    int fd = open_socket(address.ss_family, arguments[0]);
    errno = 77;
    int result = by_syscall ? syscall(SYS_bind, fd, &address, length)
                            : bind(fd, (void *)&address, length);
    int error = errno;
    if (!result && error != 77) printf("errno=%d ", error);
    report(fd, result, error);
    return 0;
}

/* odd: what a bind may be given that is no address to act on. */
static int do_odd(void) {
    struct sockaddr_storage address;
    struct { const char *name; int family, type; socklen_t length; int set; } table[] = {
        {"null", AF_INET, SOCK_STREAM, 0, -2},
        {"low pointer", AF_INET, SOCK_STREAM, 16, -3},
        {"one byte", AF_INET, SOCK_STREAM, 1, -1},
        {"short inet", AF_INET, SOCK_STREAM, 15, -1},
        {"overlong inet", AF_INET, SOCK_STREAM, 128, -1},
        {"more than there can be", AF_INET, SOCK_STREAM, 129, -1},
        {"negative length", AF_INET, SOCK_STREAM, -1, -1},
        {"short inet6", AF_INET6, SOCK_STREAM, 23, -1},
        {"inet6 without scope", AF_INET6, SOCK_STREAM, 24, -1},
        {"no family", AF_INET, SOCK_STREAM, 16, AF_UNSPEC},
        {"no family, inet6", AF_INET6, SOCK_STREAM, 28, AF_UNSPEC},
        {"foreign family", AF_INET, SOCK_STREAM, 16, AF_INET6},
        {"netlink", AF_NETLINK, SOCK_RAW, 12 /* of a struct sockaddr_nl */, -1},
        {"unix autobind", AF_UNIX, SOCK_STREAM, 2, -1},
        {"unix, inet address", AF_UNIX, SOCK_STREAM, 16, AF_INET},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int fd = socket(table[i].family, table[i].type, 0);
        memset(&address, 0, sizeof address);
        address.ss_family = table[i].set >= 0 ? table[i].set : table[i].family;
        /* A port that is free whatever else runs, and not 0. */
        if (address.ss_family != AF_NETLINK && address.ss_family != AF_UNIX)
            ((struct sockaddr_in *)&address)->sin_port = htons(20000 + getpid() % 20000 + i);
        struct sockaddr *pointer = table[i].set == -2   ? NULL
                                   : table[i].set == -3 ? (void *)8
                                                        : (void *)&address;
        int result = bind(fd, pointer, table[i].length);
        printf("%s: ", table[i].name);
        report(fd, result, errno);
        close(fd);
    }
    int result = bind(-1, (void *)&address, 16);
    printf("closed: %d %s\n", result, error_name(errno));
    return 0;
}

/* overwrite KIND ADDRESS PORT: rewrites the environment first, as servers do
   that show their state in ps(1). */
static int do_overwrite(char **arguments) {
    for (char **entry = environ; *entry; entry++) memset(*entry, 'x', strlen(*entry));
    environ = NULL;
    return do_bind(0, arguments);
}

/* vfork KIND ADDRESS PORT: binds in the child, looks in the parent. */
static int do_vfork(char **arguments) {
    struct sockaddr_storage address;
    socklen_t length = parse(arguments[1], arguments[2], &address);
    int fd = open_socket(address.ss_family, arguments[0]);
    volatile int result = -1;
    pid_t child = vfork();
    if (child == 0) {
        result = bind(fd, (void *)&address, length);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    report(fd, result, errno);
    return 0;
}

/* syscalls: numbers other than SYS_bind, one of which returns twice. */
static int do_syscalls(void) {
#ifdef SYS_fork
    long child = syscall(SYS_fork);
#else
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
    if (child == 0) _exit(syscall(SYS_getppid) == getppid() ? 7 : 8);
    int status = 0;
    waitpid(child, &status, 0);
    errno = 0;
    long failed = syscall(SYS_close, -1);
    printf("fork=%d close=%ld %s mmap=%d\n", WEXITSTATUS(status), failed, error_name(errno),
           syscall(SYS_mmap, NULL, 4096L, 3, 0x22, -1, 0) != -1);
    return 0;
}

enum { THREADS = 8 };
static pthread_barrier_t barrier;

static void *one_thread(void *port) {
    struct sockaddr_storage address;
    socklen_t length = parse("127.0.0.1", port, &address);
    int fd = open_socket(AF_INET, "tcp");
    pthread_barrier_wait(&barrier);
    int result = bind(fd, (void *)&address, length);
    return (void *)(long)(result == 0 && listen(fd, 1) == 0 && option(fd, SO_REUSEPORT) == 1);
}

/* threads PORT: as many listeners on one port, bound at the same moment. */
static int do_threads(char *port) {
    pthread_t threads[THREADS];
    long listening = 0;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, one_thread, port);
    for (int i = 0; i < THREADS; i++) {
        void *value;
        pthread_join(threads[i], &value);
        listening += (long)value;
    }
    printf("%ld listening\n", listening);
    return 0;
}

/* ephemeral COUNT: how many ports as many UDP sockets get that leave the choice
   to the kernel. Several processes hold them, for the limit of open files. */
static int do_ephemeral(int count) {
    enum { PROCESSES = 8 };
    static char seen[65536];
    int distinct = 0, ports[2], end[2];
    if (pipe(ports) || pipe(end)) return 3;
    for (int process = 0; process < PROCESSES; process++) {
        if (fork()) continue;
        char byte;
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        close(end[1]);
        for (int i = 0; i < count / PROCESSES; i++) {
            struct sockaddr_in address = {.sin_family = AF_INET};
            socklen_t length = sizeof address;
            int fd = socket(AF_INET, SOCK_DGRAM, 0);
            if (fd < 0 || bind(fd, (void *)&address, length)) {
                perror("ephemeral");
                address.sin_port = 0;
            }
            getsockname(fd, (void *)&address, &length);
            if (write(ports[1], &address.sin_port, 2) != 2) _exit(3);
        }
        _exit(read(end[0], &byte, 1) != 0);
    }
    for (int i = 0; i < count / PROCESSES * PROCESSES; i++) {
        unsigned short port;
        if (read(ports[0], &port, 2) != 2) return 3;
        distinct += !seen[port]++;
    }
    close(end[1]);
    while (wait(NULL) > 0) continue;
    printf("%d\n", distinct);
    return 0;
}

/* hold KIND ADDRESS PORT: binds, listens, and waits until standard input ends. */
static int do_hold(char **arguments) {
    struct sockaddr_storage address;
    socklen_t length = parse(arguments[1], arguments[2], &address);
    int fd = open_socket(address.ss_family, arguments[0]);
    int result = bind(fd, (void *)&address, length);
    report(fd, result, errno);
    listen(fd, 1);
    fflush(stdout);
    char byte;
    return read(0, &byte, 1) < 0;
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "bind")) return do_bind(0, arguments + 2);
    if (!strcmp(what, "syscall")) return do_bind(1, arguments + 2);
    if (!strcmp(what, "odd")) return do_odd();
    if (!strcmp(what, "overwrite")) return do_overwrite(arguments + 2);
    if (!strcmp(what, "vfork")) return do_vfork(arguments + 2);
    if (!strcmp(what, "syscalls")) return do_syscalls();
    if (!strcmp(what, "threads")) return do_threads(arguments[2]);
    if (!strcmp(what, "ephemeral")) return do_ephemeral(atoi(arguments[2]));
    if (!strcmp(what, "hold")) return do_hold(arguments + 2);
    return 3;
}
