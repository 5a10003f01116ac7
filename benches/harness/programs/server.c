/* The libuv server: one loop. Same work as the others: see handler.rs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"
#define MOST_ANSWERS 256

static const char hello[] = HELLO;
static char answers[MOST_ANSWERS * (sizeof(hello) - 1)];
static char *buffer;
static size_t buffer_bytes = 4096;
static int is_http;

struct connection {
    uv_tcp_t tcp;
    int seen;
};

/* A copy of what the socket did not take at once. */
struct rest {
    uv_write_t request;
    char bytes[];
};

static void die(const char *what, int status) {
    fprintf(stderr, "%s: %s\n", what, uv_strerror(status));
    exit(1);
}

static void on_close(uv_handle_t *handle) { free(handle->data); }

static void on_written(uv_write_t *request, int status) {
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_close);
    free(request);
}

/* One buffer serves all connections: what is read is answered before the next read. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room) {
    (void)handle, (void)suggested;
    *room = uv_buf_init(buffer, buffer_bytes);
}

static void answer(uv_stream_t *stream, const char *bytes, size_t len) {
    uv_buf_t output = uv_buf_init((char *)bytes, len);
    int sent = uv_try_write(stream, &output, 1);
    if (sent < 0)
        sent = 0;
    if ((size_t)sent == len)
        return;
    struct rest *rest = malloc(sizeof(*rest) + len - sent);
    memcpy(rest->bytes, bytes + sent, len - sent);
    output = uv_buf_init(rest->bytes, len - sent);
    uv_write(&rest->request, stream, &output, 1, on_written);
}

static size_t count_heads(struct connection *connection, const char *bytes, ssize_t len) {
    size_t heads = 0;
    for (ssize_t i = 0; i < len; i++) {
        int expects_return = connection->seen % 2 == 0;
        if (bytes[i] == (expects_return ? '\r' : '\n'))
            connection->seen++;
        else
            connection->seen = bytes[i] == '\r';
        if (connection->seen == 4) {
            connection->seen = 0;
            heads++;
        }
    }
    return heads;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *input) {
    if (count < 0) {
        if (!uv_is_closing((uv_handle_t *)stream))
            uv_close((uv_handle_t *)stream, on_close);
    } else if (count > 0 && is_http) {
        size_t heads = count_heads(stream->data, input->base, count);
        if (heads > 0)
            answer(stream, answers, heads * (sizeof(hello) - 1));
    } else if (count > 0) {
        answer(stream, input->base, count);
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0)
        die("listen", status);
    struct connection *connection = calloc(1, sizeof(*connection));
    uv_tcp_init(listener->loop, &connection->tcp);
    connection->tcp.data = connection;
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) < 0) {
        uv_close((uv_handle_t *)&connection->tcp, on_close);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1);
    uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--service=", 10) == 0)
            is_http = strcmp(argv[i] + 10, "http") == 0;
        if (strncmp(argv[i], "--buffer=", 9) == 0)
            buffer_bytes = strtoul(argv[i] + 9, NULL, 10);
    }
    buffer = malloc(buffer_bytes);
    for (size_t i = 0; i < sizeof(answers); i++)
        answers[i] = hello[i % (sizeof(hello) - 1)];
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_init(loop, &listener);
    int status = uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&listener, 4096, on_connection);
    if (status < 0)
        die("listen", status);
    int len = sizeof(address);
    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len);
    printf("listening 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
