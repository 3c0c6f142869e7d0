#include "comm/invitation_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

bool fbi_invitation_new(fbi_invitation *in)
{
    *in = (fbi_invitation){.n = 0};
    return getrandom(in->token, sizeof in->token, 0) == sizeof in->token;
}

static void add_address(fbi_invitation *in, const struct sockaddr *a, uint16_t port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (in->n == FBI_ADDRESSES)
        return;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)a;
        six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
        memcpy(six.sin6_addr.s6_addr + 12, &four->sin_addr, 4);
    } else {
        six.sin6_addr = ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr))
            return;
    }
    in->address[in->n++] = six;
}

void fbi_invitation_list(fbi_invitation *in, uint16_t port)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all))
        return;
    for (int loop = 0; loop < 2; loop++)
        for (struct ifaddrs *i = all; i; i = i->ifa_next) {
            bool ip = i->ifa_addr &&
                      (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6);
            bool is_loop = (i->ifa_flags & IFF_LOOPBACK) != 0;
            if (ip && (i->ifa_flags & IFF_UP) && is_loop == (loop == 1))
                add_address(in, i->ifa_addr, port);
        }
    freeifaddrs(all);
}

bool fbi_invitation_write(const fbi_invitation *in, char text[FBI_INVITATION_TEXT])
{
    size_t at = 0;
    for (int i = 0; i < FBI_TOKEN_BYTES; i++)
        at += (size_t)snprintf(text + at, FBI_INVITATION_TEXT - at, "%02x", in->token[i]);
    at += (size_t)snprintf(text + at, FBI_INVITATION_TEXT - at, " %u",
                           in->n ? (unsigned)ntohs(in->address[0].sin6_port) : 0);
    for (int i = 0; i < in->n; i++) {
        char address[INET6_ADDRSTRLEN];
        inet_ntop(AF_INET6, &in->address[i].sin6_addr, address, sizeof address);
        at += (size_t)snprintf(text + at, FBI_INVITATION_TEXT - at, " %s", address);
        if (at >= FBI_INVITATION_TEXT)
            return false;
    }
    return in->n > 0;
}

bool fbi_invitation_read(fbi_invitation *in, const char *text)
{
    char copy[FBI_INVITATION_TEXT], *rest = NULL;
    *in = (fbi_invitation){.n = 0};
    snprintf(copy, sizeof copy, "%s", text);
    const char *token = strtok_r(copy, " ", &rest), *port = strtok_r(NULL, " ", &rest);
    if (!port || strlen(token) != 2 * sizeof in->token || atoi(port) < 1 || atoi(port) > 65535)
        return false;
    for (int i = 0; i < FBI_TOKEN_BYTES; i++) {
        unsigned byte;
        if (sscanf(token + 2 * i, "%2x", &byte) != 1)
            return false;
        in->token[i] = (unsigned char)byte;
    }
    for (const char *word; in->n < FBI_ADDRESSES && (word = strtok_r(NULL, " ", &rest));) {
        struct sockaddr_in6 *a = &in->address[in->n];
        *a = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                   .sin6_port = htons((uint16_t)atoi(port))};
        if (inet_pton(AF_INET6, word, &a->sin6_addr) != 1)
            return false;
        in->n++;
    }
    return in->n > 0;
}

int fbi_invitation_connect(const struct sockaddr_in6 *address)
{
    const struct sockaddr *name = (const struct sockaddr *)address;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = address->sin6_port};
    socklen_t size = sizeof *address;
    if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
        memcpy(&four.sin_addr, address->sin6_addr.s6_addr + 12, 4);
        name = (const struct sockaddr *)&four;
        size = sizeof four;
    }
    int on = 1, fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, name, size) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}
