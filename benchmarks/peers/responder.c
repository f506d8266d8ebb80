/* The minimal controller: it answers each packet-in with a flow-mod for each switch on the path and a packet-out
 * at the destination, built from templates. It knows in advance where each host is. Its rate is therefore that
 * of the emulated switches, an upper bound for any controller.
 *
 * responder PORT PORTS BEHIND APART MODE: hosts are numbered consecutively, BEHIND on each of PORTS ports of the
 * switches 1, 1 + APART, 1 + 2 APART, ... of a line. MODE path: rules for the whole path at the first packet-in, as libnetvirt does. hop: at each switch its own
 * rule, and the frame goes out towards the next switch, as a learning switch does. careless: no rules at all, which
 * a benchmark must notice. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS 1024
#define ROOM (1 << 20)
#define FRAME 60

struct peer {
    int socket;
    uint32_t dpid;
    size_t held, ready;
    unsigned char in[ROOM], out[4 * ROOM];
};

static struct pollfd polled[PEERS + 1];
static struct peer *peers[PEERS + 1], *by_dpid[PEERS + 1];
static uint32_t ports, behind, apart;
static char mode;

static void flush(struct peer *p)
{
    for (size_t sent = 0; sent < p->ready;) {
        ssize_t done = write(p->socket, p->out + sent, p->ready - sent);
        if (done <= 0)
            break;
        sent += done;
    }
    p->ready = 0;
}

static unsigned char *room(struct peer *p, size_t length)
{
    if (p->ready + length > sizeof p->out)
        flush(p);
    p->ready += length;
    return memset(p->out + p->ready - length, 0, length);
}

/* The port towards the destination. A line's first switch has one link, the others have left, then right. */
static void put_port(unsigned char *at, uint32_t here, uint32_t to, uint32_t port)
{
    port = htonl(here == to ? port : here == 1 ? 10001 : 10002);
    memcpy(at, &port, 4);
}

static void set_up(struct peer *p, const unsigned char *frame)
{
    uint32_t number, to, dpid, last, port;
    memcpy(&number, frame + 2, 4);
    number = (ntohl(number) - 1) / behind, to = number / ports * apart + 1, port = number % ports + 1;
    if (to > PEERS || !by_dpid[to])
        return;
    last = mode == 'p' ? to : p->dpid;
    for (dpid = p->dpid; mode != 'c' && dpid <= last && by_dpid[dpid]; dpid++) {
        unsigned char *m = room(by_dpid[dpid], 88);
        m[0] = 4, m[1] = 14, m[3] = 88, m[31] = 20, memset(m + 32, 255, 4);
        m[49] = 1, m[51] = 14, m[52] = 0x80, m[54] = 6, m[55] = 6, memcpy(m + 56, frame, 6);
        m[65] = 4, m[67] = 24, m[75] = 16, put_port(m + 76, dpid, to, port);
    }
    struct peer *out = mode == 'h' ? p : by_dpid[to];
    unsigned char *m = room(out, 40 + FRAME);
    m[0] = 4, m[1] = 13, m[3] = 40 + FRAME, memset(m + 8, 255, 6), m[17] = 16;
    m[27] = 16, put_port(m + 28, out->dpid, to, port), memcpy(m + 40, frame, FRAME);
}

static void answer(struct peer *p, const unsigned char *m, size_t length)
{
    if (m[1] == 0) {
        static const unsigned char greeting[] = {4, 0, 0, 8, 0, 0, 0, 0, 4, 5, 0, 8, 0, 0, 0, 1};
        memcpy(room(p, sizeof greeting), greeting, sizeof greeting);
    } else if (m[1] == 2) {
        unsigned char *echo = memcpy(room(p, length), m, length);
        echo[1] = 3;
    } else if (m[1] == 6) {
        memcpy(&p->dpid, m + 12, 4);
        p->dpid = ntohl(p->dpid);
        if (p->dpid <= PEERS)
            by_dpid[p->dpid] = p;
    } else if (m[1] == 10 && length > FRAME) {
        set_up(p, m + length - FRAME);
    }
}

static int take(struct peer *p)
{
    ssize_t got = read(p->socket, p->in + p->held, ROOM - p->held);
    size_t pos = 0, end = p->held + (got > 0 ? got : 0);
    while (end - pos >= 8) {
        size_t length = p->in[pos + 2] << 8 | p->in[pos + 3];
        if (length < 8 || length > end - pos)
            break;
        answer(p, p->in + pos, length);
        pos += length;
    }
    memmove(p->in, p->in + pos, p->held = end - pos);
    return got > 0;
}

int main(int count, char **words)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, n = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (count != 6 || atoi(words[2]) < 1 || atoi(words[3]) < 1)
        return fputs("responder PORT PORTS BEHIND APART path|hop|careless\n", stderr), 2;
    ports = atoi(words[2]), behind = atoi(words[3]), apart = atoi(words[4]), mode = words[5][0];
    here.sin_port = htons(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, PEERS))
        return perror("responder"), 1;
    polled[0] = (struct pollfd){listener, POLLIN, 0};
    while (poll(polled, n, -1) > 0) {
        for (int i = 1; i < n; i++) {
            if (polled[i].revents && !take(peers[i])) {
                close(peers[i]->socket);
                if (peers[i]->dpid <= PEERS)
                    by_dpid[peers[i]->dpid] = NULL;
                free(peers[i]);
                n--, peers[i] = peers[n], polled[i] = polled[n], i--;
            }
        }
        for (int i = 1; i < n; i++)
            if (peers[i]->ready)
                flush(peers[i]);
        if (polled[0].revents && n <= PEERS) {
            peers[n] = calloc(1, sizeof *peers[n]);
            peers[n]->socket = accept(listener, NULL, NULL);
            setsockopt(peers[n]->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            polled[n] = (struct pollfd){peers[n]->socket, POLLIN, 0};
            n++;
        }
    }
    return 0;
}
