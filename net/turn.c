#include "net/turn.h"

#include <assert.h>

static void turn_idle_cb(uv_idle_t *handle)
{
    struct turn *turn = handle->data;
    if (turn->work != NULL)
        turn->work(turn);
}

static void turn_prepare_cb(uv_prepare_t *handle)
{
    struct turn *turn = handle->data;
    if (!turn->awake)
        return;
    /* Asleep before the call, so that whatever is collected from inside flush wakes the turn again. */
    turn->awake = false;
    if (turn->flush(turn))
        turn->awake = true;
    if (!turn->awake && !uv_is_closing((uv_handle_t *)&turn->idle))
        uv_idle_stop(&turn->idle);
}

static void turn_check_cb(uv_check_t *handle)
{
    struct turn *turn = handle->data;
    turn->number++;
}

int turn_init(struct turn *turn, uv_loop_t *loop)
{
    assert(turn->flush != NULL);
    turn->number = 1;
    turn->awake = false;
    turn->open = 0;
    turn->closed = NULL;
    /* In libuv 1.44 these can't fail. */
    uv_prepare_init(loop, &turn->prepare);
    uv_check_init(loop, &turn->check);
    uv_idle_init(loop, &turn->idle);
    turn->prepare.data = turn;
    turn->check.data = turn;
    turn->idle.data = turn;
    turn->open = 3;
    uv_prepare_start(&turn->prepare, turn_prepare_cb);
    uv_check_start(&turn->check, turn_check_cb);
    uv_unref((uv_handle_t *)&turn->prepare);
    uv_unref((uv_handle_t *)&turn->check);
    return 0;
}

void turn_wake(struct turn *turn)
{
    if (turn->awake || turn->closed != NULL)
        return;
    turn->awake = true;
    uv_idle_start(&turn->idle, turn_idle_cb);
}

static void turn_closed_cb(uv_handle_t *handle)
{
    struct turn *turn = handle->data;
    assert(turn->open > 0);
    if (--turn->open == 0)
        turn->closed(turn);
}

void turn_close(struct turn *turn, void (*closed)(struct turn *turn))
{
    assert(turn->closed == NULL);
    assert(closed != NULL);
    turn->closed = closed;
    turn->awake = false;
    uv_close((uv_handle_t *)&turn->prepare, turn_closed_cb);
    uv_close((uv_handle_t *)&turn->check, turn_closed_cb);
    uv_close((uv_handle_t *)&turn->idle, turn_closed_cb);
}
