/*
 * The floor of a round trip: a C server that does what any vfio-user server must (poll, recvmsg with room for descriptors,
 * sendmsg) and nothing else. Answers VERSION once, then each REGION_READ with `count` bytes of zero.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEADER = 16, COMMAND_VERSION = 1, COMMAND_REGION_READ = 9, FLAG_REPLY = 1, READ_FIXED = 16 };

static char message[1 << 16];

static ssize_t receive(int socket) {
    char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec vector = {message, sizeof message};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    if (poll(&ready, 1, -1) != 1) return -1;
    return recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}

static int reply(int socket, uint32_t size) {
    uint32_t flags = FLAG_REPLY, error = 0;
    struct iovec vector = {message, size};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    memcpy(message + 4, &size, 4);
    memcpy(message + 8, &flags, 4);
    memcpy(message + 12, &error, 4);
    return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) return perror("listen"), 1;
    puts("ready");
    fflush(stdout);
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (receive(client) >= HEADER) {
        uint16_t command;
        uint32_t count, size = HEADER + 4;
        memcpy(&command, message + 2, 2);
        if (command == COMMAND_REGION_READ) {
            memcpy(&count, message + HEADER + 12, 4);
            size = HEADER + READ_FIXED + count;
        }
        if (reply(client, size)) break;
    }
    unlink(argv[1]);
    return 0;
}
