/* Leader leases, read grants and exposure (DESIGN section 6, docs/CONSISTENCY.md) on three voters and one register.
 *
 * What is modelled. Terms, logs with a durable and a volatile part, elections with the core's own vote rules, AppendEntries
 * with stamp and grant, echoes with the received index, commit by durable acknowledgements of the own term, exposure,
 * crashes that lose what was not synced and every promise, a leader that steps down for no reason, TimeoutNow, loss and
 * any delay of frames to followers. What the model leaves out, and why nothing is lost by it:
 * - An echo arrives at once or never. A late one brings the leader an older stamp and makes it count the grantee for
 *   longer, from the receipt: both are the safe side. (One from an earlier run of its sender is refused by its connection.)
 * - A vote is one atomic step. A vote under way is counted later than it was given, and its giver has left the old term
 *   already, so nobody gives or takes a promise between the two. Pre-votes only keep elections from happening.
 * - What a follower has applied is not kept. It is at most what its leader has exposed, so it shows nothing new, and a
 *   new leader that starts from nothing is the worst case.
 * - ReadIndex uses no promise and no clock.
 * - Who votes does not change: docs/CONSISTENCY.md, "Membership", has the argument for changes.
 * In two points the model allows more than the code does: a leader may give grants before its barrier is exposed, and a
 * server with a vote guard may obey TimeoutNow. With -DGRANT_WHEN_READY grants wait for the barrier, as in the code.
 *
 * Time. A promise is a countdown in ticks of real time. Clocks run at rates within rho, so each promise lasts for some
 * stretch within bounds; what could break safety is only its worst case, so that alone is modelled: the shortest time for
 * which a follower refuses to elect (P from accepting) and for which a leader counts a grantee (G from the echo), the
 * longest for which a lease (P from the stamp) and a grant (G from the echo) are used. That these worst cases are in this
 * order is arithmetic, proved in docs/CONSISTENCY.md and tested in tests/unit/test_lease.c; here they are equal, the
 * tightest that the arithmetic allows. Shorter leases and longer promises only take steps away. Any number of steps, or
 * none, may come between two ticks.
 *
 * The property. `shown` is the newest write that anyone may have been told of: acknowledged, or applied by any node. A
 * read that may be answered locally must have it: at a leader it is applied; at a grantee it is in the log, where the
 * table of pending keys makes the read wait for it. So a read that starts after a write was acknowledged, or after
 * another read returned it, returns it or a newer one. Reads change nothing: each is an assertion.
 *
 * Bounds: TERMS terms, LEN log entries (each new leader's barrier is one), CRASHES crashes, TRANSFERS transfers, and DELAYS
 * (0 or 1) frame that is delayed, for as long as it may be, while any others arrive at once, overtaking it, or are lost. Time
 * and the number of frames are not bounded. With LOSSY syncing is a step of its own, with HEARTBEATS a frame may bring no
 * new entries, with LEARNER a fourth node has no vote and alone gets grants. The first leader is node 0; of the other two,
 * node 1 stands first, or alone if there are two terms: a matter of names. With -D<error> one rule is broken: run.py lists
 * them. */
#ifdef LEARNER
#define N 4
#define VOTES(n) ((n) < 3)
#define GRANTS_TO(n) ((n) == 3)
#else
#define N 3
#define VOTES(n) true
#define GRANTS_TO(n) true
#endif
#ifndef TERMS
#define TERMS 2
#endif
#ifndef LEN
#define LEN 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TRANSFERS
#define TRANSFERS 1
#endif
#ifndef DELAYS
#define DELAYS 1
#endif
#ifndef P
#define P 2
#endif
#ifndef G
#define G 2
#endif

#define AT(n, i) ((n) * LEN + (i))   /* entry i + 1 of node n's log */
#define OF(l, f) ((l) * N + (f))     /* what leader l knows of f */
#define WRITE(e) ((e) & 1)           /* an entry is its term, twice, plus 1 if it is a client's write */
#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* --- Nodes --- */
byte term[N], last[N], durable[N];
byte commit[N], exposed[N]; /* of a leader */
byte lg[N * LEN];
bit leads[N];
byte follows[N];  /* 1 + the leader whose frames it took in this term, 0: none */
byte match[N];    /* verified against the leader of this term */
byte promise[N];  /* elects nobody, unless told to by its leader */
byte guard[N];    /* elects nobody: after a restart, or a leader of old with grants out */
byte grant[N], needs[N];
byte barrier[N];  /* a leader's first own entry */
bit moved[N];     /* leadership was offered in this term */

/* --- What a leader knows of the others --- */
byte lease[N];        /* left of the lease by the newest stamp echoed: with three voters one echo is a quorum */
byte received[N * N], stored[N * N];
bit anew[N * N];      /* its next echo comes over a new connection, from a new run of it */
byte echoed[N * N];   /* left of a grant that answers the newest echo */
byte grantee[N * N];  /* it is one for that long; survives the term */

/* --- The frame under way, and the TimeoutNow --- */
byte a_to, a_from, a_term, a_last, a_commit, a_stamp, a_grant, a_needs; /* a_term 0: none */
byte a_lg[LEN];
bit t_on;
byte t_to, t_from, t_term;

/* The frame at hand, within a step. */
byte h_to, h_from, h_term, h_last, h_commit, h_stamp, h_grant, h_needs;
byte h_lg[LEN];

byte shown, shown_entry;
byte crashes, transfers;
bit one_stood;

byte i, k, l, f, v, x, y; /* scratch */

#ifdef LOSSY
#define SYNCED(n)
#else
#define SYNCED(n) ; durable[n] = last[n]
#endif
#define MAX_OF(a, n) MAX(a[OF(n, 0)], MAX(a[OF(n, 1)], a[OF(n, 2)]))
#define LEASE(n) lease[n]
#ifdef LEARNER
#define GRANTS(n) grantee[OF(n, 3)]
#define ECHOES(n) (MAX_OF(echoed, n) > 0 || echoed[OF(n, 3)] > 0)
#else
#define GRANTS(n) MAX_OF(grantee, n)
#define ECHOES(n) (MAX_OF(echoed, n) > 0)
#endif

#ifdef LEASE_AFTER_TRANSFER
#define LEASE_HELD(n) (leads[n] && LEASE(n) > 0)
#else
#define LEASE_HELD(n) (leads[n] && !moved[n] && LEASE(n) > 0)
#endif
#ifdef NO_BARRIER
#define READY(n) true
#else
#define READY(n) (exposed[n] >= barrier[n])
#endif
#ifdef OLD_RECEIVED
#define REPORTED(n) last[n]
#else
#define REPORTED(n) match[n]
#endif
#ifdef GRANT_WHEN_READY
#define MAY_GRANT(n, f) (GRANTS_TO(f) && echoed[OF(n, f)] > 0 && LEASE_HELD(n) && READY(n))
#else
#define MAY_GRANT(n, f) (GRANTS_TO(f) && echoed[OF(n, f)] > 0 && LEASE_HELD(n))
#endif
#ifdef GRANT_WITHOUT_NEEDS
#define USABLE(n) (grant[n] > 0)
#else
#define USABLE(n) (grant[n] > 0 && match[n] >= needs[n])
#endif

/* Of n's log, others may have been told up to index e. */
inline shows(n, e)
{
    i = e;
    do
    :: i > shown && !WRITE(lg[AT(n, i - 1)]) -> i--
    :: i > shown && WRITE(lg[AT(n, i - 1)]) -> shown = i; shown_entry = lg[AT(n, i - 1)]; break
    :: i <= shown -> break
    od;
    i = 0
}

inline forget_lead(n)
{
    for (k : 0 .. N - 1) {
        received[OF(n, k)] = 0; stored[OF(n, k)] = 0; echoed[OF(n, k)] = 0; anew[OF(n, k)] = 0;
    }
    lease[n] = 0; barrier[n] = 0; moved[n] = 0; commit[n] = 0; exposed[n] = 0
}

/* Leadership ends, for whatever reason, with grants out or not. */
inline lead_ends(n)
{
    if
    :: leads[n] ->
        leads[n] = 0;
        forget_lead(n);
#ifndef DEPOSED_LEADER_VOTES
        guard[n] = MAX(guard[n], GRANTS(n));
#endif
    :: else
    fi
}

inline new_term(n, t)
{
    lead_ends(n);
    term[n] = t; follows[n] = 0; match[n] = 0; grant[n] = 0; needs[n] = 0;
}

#ifdef EXPOSE_IGNORES_GRANTEE
#define ALLOWED(n, f) LEN
#else
#define ALLOWED(n, f) (grantee[OF(n, f)] > 0 -> received[OF(n, f)] : LEN)
#endif
#ifdef LEARNER
#define EXPOSABLE(n) MIN(commit[n], ALLOWED(n, 3))
#else
#define EXPOSABLE(n) MIN(commit[n], MIN(ALLOWED(n, 0), MIN(ALLOWED(n, 1), ALLOWED(n, 2))))
#endif

/* Leader n: commit what is of its own term and durable on a majority. */
inline advance(n)
{
    x = MAX_OF(stored, n);
    x = MIN(x, durable[n]);
    if
    :: x > commit[n] && lg[AT(n, x - 1)] / 2 == term[n] -> commit[n] = x
    :: else
    fi
}

/* ... and expose it, at once or later. */
inline expose(n)
{
    exposed[n] = EXPOSABLE(n);
    printf("node %d shows its log up to %d\n", n, exposed[n]);
    shows(n, exposed[n])
}

/* What a step used by the way is no part of the state. */
inline done()
{
    h_to = 0; h_from = 0; h_term = 0; h_last = 0; h_commit = 0; h_stamp = 0; h_grant = 0; h_needs = 0;
    for (k : 0 .. LEN - 1) {
        h_lg[k] = 0
    }
    i = 0; k = 0; l = 0; f = 0; v = 0; x = 0; y = 0
}

/* --- Steps --- */

inline client_write(n)
{
    lg[AT(n, last[n])] = 2 * term[n] + 1; last[n]++ SYNCED(n);
    printf("node %d appends write %d in term %d\n", n, last[n], term[n])
}

inline sync(n)
{
    durable[n] = last[n];
    printf("node %d syncs its log up to %d\n", n, last[n]);
    if
    :: leads[n] -> advance(n)
    :: else
    fi
}

/* AppendEntries from n to f: all of its log, or only what f has stored (a heartbeat). */
inline send(n, f, whole, grants)
{
    h_to = f; h_from = n; h_term = term[n]; h_commit = commit[n]; h_stamp = P; h_grant = 0; h_needs = 0;
    h_last = (whole -> last[n] : stored[OF(n, f)]);
    for (k : 0 .. LEN - 1) {
        h_lg[k] = (k < h_last -> lg[AT(n, k)] : 0)
    }
    if
#ifdef GRANT_OUTLIVES_LEASE
    :: grants && MAY_GRANT(n, f) && received[OF(n, f)] >= commit[n] ->
#else
    :: grants && MAY_GRANT(n, f) && echoed[OF(n, f)] <= LEASE(n) && received[OF(n, f)] >= commit[n] ->
#endif
        grantee[OF(n, f)] = MAX(grantee[OF(n, f)], echoed[OF(n, f)]);
        h_grant = echoed[OF(n, f)];
        h_needs = last[n]
    :: else
    fi;
    printf("node %d sends %d entries to %d, commit %d, grant %d needs %d\n", n, h_last, f, h_commit, h_grant, h_needs)
}

inline under_way()
{
    a_to = h_to; a_from = h_from; a_term = h_term; a_last = h_last; a_commit = h_commit; a_stamp = h_stamp;
    a_grant = h_grant; a_needs = h_needs;
    for (k : 0 .. LEN - 1) {
        a_lg[k] = h_lg[k]
    }
    printf("  it is delayed\n")
}

inline lost()
{
    a_to = 0; a_from = 0; a_term = 0; a_last = 0; a_commit = 0; a_stamp = 0; a_grant = 0; a_needs = 0;
    for (k : 0 .. LEN - 1) {
        a_lg[k] = 0
    }
    k = 0
}

inline arrives()
{
    h_to = a_to; h_from = a_from; h_term = a_term; h_last = a_last; h_commit = a_commit; h_stamp = a_stamp;
    h_grant = a_grant; h_needs = a_needs;
    for (k : 0 .. LEN - 1) {
        h_lg[k] = a_lg[k]
    }
    lost();
    printf("the delayed frame arrives at %d\n", h_to)
}

/* The echo of n arrives. */
inline echo(n)
{
    l = h_from;
    if
    :: leads[l] && term[l] == term[n] ->
        if
        :: VOTES(n) -> lease[l] = MAX(lease[l], h_stamp)
        :: else
        fi;
#ifndef RECEIVED_ACROSS_RESTART
        if
        :: anew[OF(l, n)] -> received[OF(l, n)] = 0; anew[OF(l, n)] = 0
        :: else
        fi;
#endif
        received[OF(l, n)] = MAX(received[OF(l, n)], REPORTED(n));
        if
        :: VOTES(n) -> stored[OF(l, n)] = MAX(stored[OF(l, n)], MIN(match[n], durable[n]))
        :: else
        fi;
        echoed[OF(l, n)] = G;
        printf("node %d has its echo: received %d, stored %d\n", l, received[OF(l, n)], stored[OF(l, n)]);
        advance(l)
    :: else
    fi
}

/* Node n takes the frame at hand; its echo arrives, or is lost. */
inline deliver(n, echoes)
{
    if
    :: h_term >= term[n] ->
        if
        :: h_term > term[n] -> new_term(n, h_term)
        :: else
        fi;
        follows[n] = h_from + 1; promise[n] = P;
        i = 0; /* entries that agree */
        do
        :: i < h_last && i < last[n] && lg[AT(n, i)] == h_lg[i] -> i++
        :: else -> break
        od;
        if
        :: i < h_last ->
            if
            :: i < last[n] -> grant[n] = 0; needs[n] = 0 /* its tail is replaced */
            :: else
            fi;
            durable[n] = MIN(durable[n], i);
            last[n] = h_last;
            for (k : 0 .. LEN - 1) {
                lg[AT(n, k)] = h_lg[k]
            }
            SYNCED(n)
        :: else
        fi;
        match[n] = MAX(match[n], h_last);
#ifdef SHOW_UNEXPOSED
        x = MIN(h_commit, h_last);
        shows(n, x);
#endif
        if
#ifdef GRANT_FROM_ARRIVAL
        :: h_grant > 0 -> grant[n] = G; needs[n] = h_needs
#else
        :: h_grant > grant[n] -> grant[n] = h_grant; needs[n] = h_needs
#endif
        :: else
        fi;
        printf("node %d takes it: %d of its %d entries match, grant %d\n", n, match[n], last[n], grant[n]);
        if
        :: echoes -> echo(n)
        :: else
        fi
    :: else -> printf("node %d refuses a frame of term %d\n", n, h_term)
    fi
}

/* n becomes leader of its term + 1 by the vote of v, who has seen no later term. */
#define NEWER(n, v) \
    (durable[n] == 0 -> last[v] == 0 : (last[v] == 0 -> true : \
     (lg[AT(n, durable[n] - 1)] / 2 > lg[AT(v, last[v] - 1)] / 2 || \
      (lg[AT(n, durable[n] - 1)] / 2 == lg[AT(v, last[v] - 1)] / 2 && durable[n] >= last[v]))))
#define MAY_VOTE(v, n, told) \
    ((v) != (n) && term[v] <= term[n] && guard[v] == 0 && (told || (!leads[v] && promise[v] == 0)) && NEWER(n, v))

inline elected(n, w)
{
    printf("node %d leads term %d by the vote of %d\n", n, term[n] + 1, w);
    y = term[n] + 1;
    new_term(w, y);
    new_term(n, y);
    leads[n] = 1; promise[n] = 0;
    forget_lead(n);
    lg[AT(n, last[n])] = 2 * y; last[n]++ SYNCED(n);
    barrier[n] = last[n]; one_stood = one_stood || n == 1
}

inline crash(n)
{
    printf("node %d crashes and restarts with %d of %d entries\n", n, durable[n], last[n]);
    crashes++;
    leads[n] = 0; forget_lead(n);
    for (k : 0 .. N - 1) {
        grantee[OF(n, k)] = 0;
#ifndef GRANT_ACROSS_RESTART
        echoed[OF(k, n)] = 0; /* an instant of an earlier run is refused */
#endif
        anew[OF(k, n)] = leads[k];
    }
    for (k : 0 .. LEN - 1) {
        lg[AT(n, k)] = (k < durable[n] -> lg[AT(n, k)] : 0)
    }
    last[n] = durable[n]; follows[n] = 0; match[n] = 0; promise[n] = 0;
    grant[n] = 0; needs[n] = 0;
#ifdef NO_VOTE_GUARD
    guard[n] = 0;
#else
    guard[n] = P;
#endif
#ifndef GRANT_ACROSS_RESTART
    if
    :: a_to == n -> a_grant = 0; a_needs = 0
    :: else
    fi
#endif
}

#define DOWN(t) t = ((t) > 0 -> (t) - 1 : 0)

inline tick()
{
    for (f : 0 .. N - 1) {
        DOWN(promise[f]); DOWN(guard[f]); DOWN(grant[f]); DOWN(lease[f]);
        if
        :: grant[f] == 0 -> needs[f] = 0
        :: else
        fi;
        for (v : 0 .. N - 1) {
            DOWN(echoed[OF(f, v)]); DOWN(grantee[OF(f, v)])
        }
    }
    DOWN(a_stamp); DOWN(a_grant);
    if
    :: a_grant == 0 -> a_needs = 0
    :: else
    fi;
    printf("a tick\n");
    done()
}

/* --- Reads --- */
#define LEADER_READS(n) (LEASE_HELD(n) && READY(n))
#define GRANTEE_READS(n) (follows[n] > 0 && !leads[n] && USABLE(n))
#define HOLDS_SHOWN(n) (shown == 0 || (last[n] >= shown && lg[AT(n, shown - 1)] == shown_entry))
#define READS_RIGHT(n) ((!LEADER_READS(n) || exposed[n] >= shown) && (!GRANTEE_READS(n) || HOLDS_SHOWN(n)))

/* What must be able to happen, or the searches show nothing: looked for like a violation. */
#if defined(REACH_LEADER_READ)
#define REACHED(n) (LEADER_READS(n) && shown > 0 && exposed[n] >= shown)
#elif defined(REACH_GRANTEE_READ)
#define REACHED(n) (GRANTEE_READS(n) && shown > 0 && HOLDS_SHOWN(n))
#elif defined(REACH_WRITE_UNDER_GRANT) /* it came after the grant was sent */
#define REACHED(n) (GRANTEE_READS(n) && shown > needs[n])
#elif defined(REACH_WRITE_WAITS) /* for a grantee */
#define REACHED(n) (leads[n] && commit[n] > exposed[n])
#elif defined(REACH_LATER_LEADER_READ)
#define REACHED(n) (LEADER_READS(n) && term[n] > 1 && shown_entry / 2 == term[n])
#elif defined(REACH_LATER_GRANTEE_READ) /* of a write of the term before */
#define REACHED(n) (GRANTEE_READS(n) && term[n] > 1 && shown > 0 && shown_entry / 2 < term[n])
#elif defined(REACH_TRANSFER)
#define REACHED(n) (transfers == 1 && LEADER_READS(n) && term[n] > 1 && shown_entry / 2 == term[n])
#elif defined(REACH_RETURN) /* a node reads again after a restart with loss */
#define REACHED(n) (restarted == n + 1 && GRANTEE_READS(n) && shown > 0)
byte restarted; /* 1 + the node, 0: none */
#define RESTARTED(n) restarted = n + 1;
#endif
#ifndef RESTARTED
#define RESTARTED(n)
#endif

#define CLIENT(n) \
    :: d_step { leads[n] && last[n] < LEN -> client_write(n); done() }
#ifdef LOSSY
#define SYNC(n) \
    :: d_step { durable[n] < last[n] -> sync(n); done() }
#else
#define SYNC(n)
#endif
/* A grant that may be given may also be left out. */
#define SEND_WITH(n, to, whole, may, grants) \
    :: d_step { may && a_term == 0 && DELAYS > 0 -> send(n, to, whole, grants); under_way(); done() } \
    :: d_step { may -> send(n, to, whole, grants); deliver(to, true); done() } \
    :: d_step { may -> send(n, to, whole, grants); deliver(to, false); done() }
#define SEND(n, to, whole) \
    SEND_WITH(n, to, whole, (leads[n] && SENDS(n, to, whole)), false) \
    SEND_WITH(n, to, whole, (leads[n] && SENDS(n, to, whole) && MAY_GRANT(n, to)), true)
#ifdef HEARTBEATS
#define SENDS(n, to, whole) (whole || stored[OF(n, to)] < last[n])
#else
#define SENDS(n, to, whole) whole
#endif
#define ARRIVE(n) \
    :: d_step { a_term > 0 && a_to == n -> arrives(); deliver(n, true); done() } \
    :: d_step { a_term > 0 && a_to == n -> arrives(); deliver(n, false); done() }
#define EXPOSE(n) \
    :: d_step { leads[n] && EXPOSABLE(n) > exposed[n] -> expose(n); done() }
#define CRASH(n) \
    :: d_step { crashes < CRASHES -> crash(n); RESTARTED(n) done() }
#define STEP_DOWN(n) \
    :: d_step { leads[n] -> printf("node %d steps down\n", n); lead_ends(n); done() }
#if TERMS == 2
#define MAY_STAND(n) (term[n] < TERMS && n != 2)
#else
#define MAY_STAND(n) (term[n] < TERMS && (n != 2 || one_stood))
#endif
#define STAND(n, w) \
    :: d_step { !leads[n] && MAY_STAND(n) && last[n] < LEN && promise[n] == 0 && guard[n] == 0 && MAY_VOTE(w, n, false) -> \
        elected(n, w); done() }
#ifdef TRANSFER_WITH_GRANTS
#define FREE(n) true
#else
#define FREE(n) (GRANTS(n) == 0)
#endif
#define TRANSFER(n, to) \
    :: d_step { transfers < TRANSFERS && MAY_STAND(to) && leads[n] && !moved[n] && FREE(n) && stored[OF(n, to)] == last[n] -> \
        printf("node %d offers its leadership to %d\n", n, to); transfers++; moved[n] = 1; t_on = 1; \
                 t_from = n; t_to = to; t_term = term[n] }
/* The transferee stands whatever its promise; so may its voter. */
#define TOLD(n, w) \
    :: d_step { t_on && t_to == n && term[n] == t_term && follows[n] == t_from + 1 && MAY_STAND(n) && last[n] < LEN && \
        MAY_VOTE(w, n, true) -> \
        t_on = 0; t_from = 0; t_to = 0; t_term = 0; printf("told by its leader, "); elected(n, w); done() }
/* ... or nobody votes for it. */
#define TOLD_IN_VAIN(n) \
    :: d_step { t_on && t_to == n && term[n] == t_term && follows[n] == t_from + 1 && MAY_STAND(n) -> \
        t_on = 0; t_from = 0; t_to = 0; t_term = 0; y = term[n] + 1; new_term(n, y); promise[n] = 0; \
        printf("node %d stands in vain in term %d\n", n, term[n]); done() }

#ifdef REACHED
#define READ(n) \
    :: atomic { REACHED(n) -> printf("node %d is there\n", n); assert(false) }
#else
#define READ(n) \
    :: atomic { !READS_RIGHT(n) -> printf("node %d answers a read without write %d\n", n, shown); assert(false) }
#endif

#define RUNNING(n) \
    (promise[n] > 0 || guard[n] > 0 || grant[n] > 0 || a_stamp > 0 || a_grant > 0 || LEASE(n) > 0 || \
     GRANTS(n) > 0 || ECHOES(n))

/* Node n; p and q are the other two voters. */
proctype node(byte n, p, q)
{
end:
    do
    CLIENT(n)
    SYNC(n)
    EXPOSE(n)
    SEND(n, p, true) SEND(n, q, true) SEND(n, p, false) SEND(n, q, false)
#ifdef LEARNER
    SEND(n, 3, true)
#endif
    ARRIVE(n)
    CRASH(n)
    STEP_DOWN(n)
    STAND(n, p) STAND(n, q)
    TRANSFER(n, p) TRANSFER(n, q)
    TOLD(n, p) TOLD(n, q)
    TOLD_IN_VAIN(n)
    READ(n)
    od
}

init
{
    atomic {
        term[0] = 1; term[1] = 1; term[2] = 1;
        leads[0] = 1;
        run node(0, 1, 2);
        run node(1, 0, 2);
        run node(2, 0, 1)
    }
end:
    do
    :: d_step { a_term > 0 -> lost(); printf("the delayed frame is lost\n") }
    :: d_step { RUNNING(0) || RUNNING(1) || RUNNING(2) || RUNNING(N - 1) -> tick() }
#ifdef LEARNER
    ARRIVE(3)
    CRASH(3)
    READ(3)
#endif
    od
}
