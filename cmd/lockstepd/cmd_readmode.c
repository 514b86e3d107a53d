/* READMODE: what this connection's reads promise. docs/OPERATIONS.md, section Reads. */
#include <string.h>

#include "cmd/lockstepd/session.h"

void readmode_set(struct session *s, const struct read_mode *mode)
{
    exec_session_set_mode(&s->exec, mode->mode, mode->stale_max_us);
    exec_session_saw(&s->exec, mode->revision);
}

static void write_text(struct resp_buffer *out, const char *text)
{
    resp_write_bulk(out, text, strlen(text));
}

/* What was seen is known once all earlier commands of the connection are answered. */
static void report_drained(struct session *s)
{
    if (!s->report_mute) {
        struct resp_buffer *out = conn_output(s->conn);
        resp_write_map(out, s->proto, 3);
        write_text(out, "mode");
        write_text(out, read_mode_name(s->exec.mode));
        write_text(out, "max-ms");
        if (s->exec.mode == EXEC_STALE && s->exec.stale_max_us > 0) {
            resp_write_integer(out, (int64_t)(s->exec.stale_max_us / 1000));
        } else {
            resp_write_null(out, s->proto);
        }
        write_text(out, "revision");
        resp_write_integer(out, (int64_t)exec_session_revision(s->owner->executor, &s->exec));
    }
    session_unpause(s, SESSION_PAUSE_REPORT);
}

static void run_readmode(struct call *call)
{
    struct session *s = call->session;
    struct read_mode mode;
    const char *error;

    if (call->argc == 1) {
        s->report_mute = s->reply_mode != SESSION_REPLY_ON;
        session_pause(s, SESSION_PAUSE_REPORT);
        session_when_drained(s, report_drained);
        return;
    }
    if (read_mode_parse(call->argv + 1, call->argc - 1, &mode, &error) != call->argc - 1) {
        call_error(call, "%s", error);
        return;
    }
    readmode_set(s, &mode);
    call_ok(call);
}

const struct command command_family_readmode[] = {
    {"readmode", -1, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_NO_MULTI, "connection",
     REDIS_VERSION,
     "What reads of this connection promise: linearizable, session [revision], stale [max-ms]; alone, shows it", "O(1)",
     "", run_readmode, NULL},
    {.name = NULL},
};
