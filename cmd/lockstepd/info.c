/* INFO: what this node measures, in the sections and fields that Redis clients parse, and a section of its own.
 *
 * Fields that have no meaning here are left out, but for those that clients are known to read. A follower calls itself
 * a writable replica (slave_read_only:0): it takes writes and forwards them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/session.h"

/* Everything that the sections show, fetched once. */
struct facts {
    struct sessions *owner;
    struct resp_buffer *out;
    struct replica_info replica;
    struct member members[REPLICA_SERVERS_MAX];
    unsigned n_members;
    struct node_stats node;
    struct server_stats server;
    struct store_stats store;
    uint64_t uptime_ms;
};

static void facts_get(struct facts *facts, struct sessions *owner, struct resp_buffer *out)
{
    facts->owner = owner;
    facts->out = out;
    facts->n_members = members_get(owner->node, &facts->replica, facts->members);
    node_stats(owner->node, &facts->node);
    server_stats(node_server(owner->node), &facts->server);
    store_stats(node_store(owner->node), &facts->store);
    facts->uptime_ms = uv_now(owner->loop) - facts->node.start_ms;
}

/* Redis's short form: "1.27M". */
static void human(char *text, size_t capacity, uint64_t bytes)
{
    static const char units[] = "KMGTP";
    double value = (double)bytes;
    int unit = -1;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    if (unit < 0) {
        (void)snprintf(text, capacity, "%" PRIu64 "B", bytes);
    } else {
        (void)snprintf(text, capacity, "%.2f%c", value, units[unit]);
    }
}

static void field_bytes(struct resp_buffer *out, const char *name, uint64_t bytes)
{
    char text[32];
    human(text, sizeof text, bytes);
    buffer_printf(out, "%s:%" PRIu64 "\r\n%s_human:%s\r\n", name, bytes, name, text);
}

static void section_server(const struct facts *f)
{
    const struct config *config = f->owner->config;
    struct utsname host;
    struct timespec now;
    const uint8_t *uuid = node_cluster_uuid(f->owner->node);
    if (uname(&host) != 0) {
        memset(&host, 0, sizeof host);
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    buffer_printf(f->out, "redis_version:%s\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_mode:%s\r\n",
                  REDIS_VERSION, config->redirect ? "cluster" : "standalone");
    buffer_printf(f->out, "lockstep_version:%s\r\nos:%s %s %s\r\narch_bits:%zu\r\nmultiplexing_api:libuv\r\n",
                  LOCKSTEP_VERSION, host.sysname, host.release, host.machine, sizeof(void *) * 8);
    buffer_printf(f->out, "process_id:%ld\r\nrun_id:", (long)getpid());
    for (unsigned i = 0; i < 16; i++) {
        buffer_printf(f->out, "%02x", uuid[i]);
    }
    buffer_printf(f->out, "%08" PRIx32 "\r\ntcp_port:%u\r\n", (uint32_t)f->replica.id, config->port);
    buffer_printf(f->out, "server_time_usec:%lld\r\n", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    buffer_printf(f->out,
                  "uptime_in_seconds:%" PRIu64 "\r\nuptime_in_days:%" PRIu64 "\r\nhz:10\r\nconfigured_hz:10\r\n",
                  f->uptime_ms / 1000, f->uptime_ms / 86400000);
}

static void section_clients(const struct facts *f)
{
    unsigned blocked = 0;
    for (const struct session *s = f->owner->first; s != NULL; s = s->next) {
        blocked += (s->paused & (SESSION_PAUSE_WAIT | SESSION_PAUSE_WATCH)) != 0 ? 1 : 0;
    }
    buffer_printf(f->out, "connected_clients:%" PRIu64 "\r\ncluster_connections:0\r\nmaxclients:%" PRIu32 "\r\n",
                  f->server.current, f->owner->config->maxclients);
    buffer_printf(f->out, "blocked_clients:%u\r\ntracking_clients:0\r\nclients_in_timeout_table:0\r\n", blocked);
}

static uint64_t resident_bytes(void)
{
    size_t bytes = 0;
    return uv_resident_set_memory(&bytes) == 0 ? bytes : 0;
}

static void section_memory(const struct facts *f)
{
    uint64_t stored = f->store.table_bytes + f->store.entry_bytes;
    uint64_t used = stored + f->replica.tail_bytes + f->replica.inflight_bytes;
    uint64_t resident = resident_bytes();
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (used > f->owner->memory_peak) {
        f->owner->memory_peak = used;
    }
    field_bytes(f->out, "used_memory", used);
    field_bytes(f->out, "used_memory_rss", resident);
    field_bytes(f->out, "used_memory_peak", f->owner->memory_peak);
    buffer_printf(f->out, "used_memory_overhead:%" PRIu64 "\r\nused_memory_dataset:%" PRIu64 "\r\n", used - stored,
                  stored);
    field_bytes(f->out, "total_system_memory", total);
    buffer_printf(f->out, "used_memory_lua:0\r\n");
    field_bytes(f->out, "maxmemory", f->owner->config->maxmemory);
    buffer_printf(f->out, "maxmemory_policy:noeviction\r\nmem_fragmentation_ratio:%.2f\r\n",
                  used > 0 ? (double)resident / (double)used : 0.0);
    buffer_printf(f->out, "mem_logical:%" PRIu64 "\r\nmem_table:%" PRIu64 "\r\nmem_entries:%" PRIu64 "\r\n",
                  store_memory(node_store(f->owner->node)), f->store.table_bytes, f->store.entry_bytes);
    buffer_printf(f->out, "mem_allocator:libc\r\nactive_defrag_running:0\r\nlazyfree_pending_objects:0\r\n");
}

static void persistence_loading(const struct facts *f)
{
    struct replica_loading_info l;
    struct timespec now;
    if (!replica_is_loading(node_replica(f->owner->node))) {
        return;
    }
    replica_loading_info(node_replica(f->owner->node), &l);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t left = l.bytes_total > l.bytes ? l.bytes_total - l.bytes : 0;
    const uint64_t rate = l.elapsed_us > 0 ? l.bytes * 1000 / (l.elapsed_us / 1000 + 1) : 0; /* per second */
    buffer_printf(f->out, "loading_start_time:%lld\r\nloading_total_bytes:%" PRIu64 "\r\n",
                  (long long)now.tv_sec - (long long)(l.elapsed_us / 1000000), l.bytes_total);
    buffer_printf(f->out, "loading_loaded_bytes:%" PRIu64 "\r\nloading_loaded_perc:%.2f\r\n", l.bytes,
                  l.bytes_total > 0 ? 100.0 * (double)l.bytes / (double)l.bytes_total : 0.0);
    buffer_printf(f->out, "loading_eta_seconds:%" PRIu64 "\r\nloading_from:%s\r\n", rate > 0 ? left / rate : 1,
                  l.replaying ? "log" : "snapshot");
    if (!l.replaying) {
        buffer_printf(f->out, "loading_keys:%" PRIu64 "\r\nloading_total_keys:%" PRIu64 "\r\n", l.keys, l.keys_total);
    }
}

/* The log is always on, each write synced: what Redis calls AOF with appendfsync always. */
static void section_persistence(const struct facts *f)
{
    const struct replica_info *r = &f->replica;
    buffer_printf(f->out, "loading:%d\r\nasync_loading:0\r\nrdb_changes_since_last_save:%" PRIu64 "\r\n",
                  replica_is_loading(node_replica(f->owner->node)) ? 1 : 0,
                  r->applied > r->snapshot.index ? r->applied - r->snapshot.index : 0);
    buffer_printf(f->out, "rdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%" PRIu64 "\r\n", r->snapshot_taking ? 1 : 0,
                  r->snapshot.time_ms / 1000);
    buffer_printf(f->out, "rdb_last_bgsave_status:ok\r\nrdb_last_bgsave_time_sec:%" PRId64 "\r\n",
                  r->snapshot_us > 0 ? (int64_t)(r->snapshot_us / 1000000) : -1);
    buffer_printf(f->out, "aof_enabled:1\r\naof_rewrite_in_progress:0\r\n");
    buffer_printf(f->out,
                  "aof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\naof_current_size:%" PRIu64 "\r\n",
                  f->replica.wal_disk_bytes);
    persistence_loading(f);
}

static void section_stats(const struct facts *f)
{
    buffer_printf(f->out, "total_connections_received:%" PRIu64 "\r\ntotal_commands_processed:%" PRIu64 "\r\n",
                  f->server.accepted, f->owner->commands_processed);
    buffer_printf(f->out, "instantaneous_ops_per_sec:%" PRIu64 "\r\ntotal_net_input_bytes:%" PRIu64 "\r\n",
                  f->owner->ops_per_second, f->server.bytes_in);
    buffer_printf(f->out, "total_net_output_bytes:%" PRIu64 "\r\nrejected_connections:%" PRIu64 "\r\n",
                  f->server.bytes_out, f->server.rejected);
    buffer_printf(f->out, "expired_keys:%" PRIu64 "\r\nevicted_keys:%" PRIu64 "\r\nevicted_clients:0\r\n",
                  f->store.expired, f->store.evicted);
    buffer_printf(f->out, "keyspace_hits:%" PRIu64 "\r\nkeyspace_misses:%" PRIu64 "\r\n", f->store.hits,
                  f->store.misses);
    buffer_printf(f->out, "pubsub_channels:0\r\npubsub_patterns:0\r\nlatest_fork_usec:0\r\ntotal_forks:0\r\n");
    buffer_printf(f->out, "protocol_errors:%" PRIu64 "\r\noutput_limit_closed:%" PRIu64 "\r\n",
                  f->server.protocol_errors, f->server.output_limit_closed);
}

static void replication_leader(const struct facts *f)
{
    unsigned connected = 0;
    for (unsigned i = 0; i < f->n_members; i++) {
        connected += !f->members[i].self && f->members[i].connected ? 1 : 0;
    }
    buffer_printf(f->out, "role:master\r\nconnected_slaves:%u\r\n", connected);
    unsigned number = 0;
    for (unsigned i = 0; i < f->n_members; i++) {
        const struct member *m = &f->members[i];
        if (m->self || !m->connected) {
            continue;
        }
        uint64_t lag_s = m->echo_age_us == UINT64_MAX ? 0 : m->echo_age_us / 1000000;
        buffer_printf(f->out, "slave%u:ip=%s,port=%u,state=online,offset=%" PRIu64 ",lag=%" PRIu64 "\r\n", number++,
                      m->host, m->port, m->match, lag_s);
    }
}

static void section_replication(const struct facts *f)
{
    const struct member *leader = NULL;
    for (unsigned i = 0; i < f->n_members; i++) {
        leader = f->members[i].leader ? &f->members[i] : leader;
    }
    if (f->replica.role == REPLICA_LEADER) {
        replication_leader(f);
    } else {
        buffer_printf(f->out, "role:slave\r\nmaster_host:%s\r\nmaster_port:%u\r\nmaster_link_status:%s\r\n",
                      leader != NULL ? leader->host : "", leader != NULL ? leader->port : 0,
                      leader != NULL ? "up" : "down");
        buffer_printf(f->out, "master_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:0\r\n",
                      leader != NULL ? 0 : -1);
        buffer_printf(f->out, "slave_read_repl_offset:%" PRIu64 "\r\nslave_repl_offset:%" PRIu64 "\r\n",
                      f->replica.applied, f->replica.applied);
        buffer_printf(f->out,
                      "slave_priority:100\r\nslave_read_only:0\r\nreplica_announced:1\r\nconnected_slaves:0\r\n");
    }
    buffer_printf(f->out, "master_failover_state:no-failover\r\nmaster_repl_offset:%" PRIu64 "\r\n", f->replica.commit);
}

static void section_cpu(const struct facts *f)
{
    struct rusage self;
    (void)getrusage(RUSAGE_SELF, &self);
    buffer_printf(f->out, "used_cpu_sys:%ld.%06ld\r\nused_cpu_user:%ld.%06ld\r\n", (long)self.ru_stime.tv_sec,
                  (long)self.ru_stime.tv_usec, (long)self.ru_utime.tv_sec, (long)self.ru_utime.tv_usec);
    buffer_printf(f->out, "used_cpu_sys_children:0.000000\r\nused_cpu_user_children:0.000000\r\n");
}

static void section_cluster(const struct facts *f)
{
    buffer_printf(f->out, "cluster_enabled:%d\r\n", f->owner->config->redirect ? 1 : 0);
}

static void section_keyspace(const struct facts *f)
{
    const struct store *store = node_store(f->owner->node);
    if (store_keys(store) > 0) {
        buffer_printf(f->out, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", store_keys(store),
                      store_keys_with_deadline(store));
    }
}

/* One line per other member; match, lag and echoes are known to the leader alone. */
static void lockstep_peers(const struct facts *f)
{
    for (unsigned i = 0; i < f->n_members; i++) {
        const struct member *m = &f->members[i];
        if (m->self) {
            continue;
        }
        buffer_printf(f->out, "peer_%" PRIu64 ":address=%s:%u,voter=%d,connected=%d", m->id, m->host, m->port, m->voter,
                      m->connected);
        if (f->replica.role == REPLICA_LEADER) {
            uint64_t lag = f->replica.last > m->match ? f->replica.last - m->match : 0;
            buffer_printf(f->out, ",match=%" PRIu64 ",lag=%" PRIu64 ",applied=%" PRIu64 ",rtt_us=%" PRIu64, m->match,
                          lag, m->applied, m->rtt_us);
            buffer_printf(f->out, ",grant_left_us=%" PRIu64 ",content=%s", m->grant_left_us,
                          m->differs ? "differs" : "ok");
            if (m->echo_age_us != UINT64_MAX) {
                buffer_printf(f->out, ",echo_age_us=%" PRIu64, m->echo_age_us);
            }
        }
        buffer_printf(f->out, "\r\n");
    }
}

/* No name may repeat one of another section: clients put all fields into one table. */
static void lockstep_raft(const struct facts *f)
{
    const struct replica_info *r = &f->replica;
    const struct member *leader = NULL;
    for (unsigned i = 0; i < f->n_members; i++) {
        leader = f->members[i].leader ? &f->members[i] : leader;
    }
    buffer_printf(f->out, "node_id:%" PRIu64 "\r\nraft_role:%s\r\nterm:%" PRIu64 "\r\nvoted_for:%" PRIu64 "\r\n", r->id,
                  replica_role_name(r->role), r->term, r->vote);
    if (leader != NULL) {
        buffer_printf(f->out, "leader:%" PRIu64 "\r\nleader_address:%s:%u\r\n", r->leader, leader->host, leader->port);
    } else {
        buffer_printf(f->out, "leader:%" PRIu64 "\r\nleader_address:\r\n", r->leader);
    }
    buffer_printf(f->out, "ready:%d\r\ncommit:%" PRIu64 "\r\napplied:%" PRIu64 "\r\nlast:%" PRIu64 "\r\n", r->ready,
                  r->commit, r->applied, r->last);
    buffer_printf(f->out, "stored:%" PRIu64 "\r\nfirst:%" PRIu64 "\r\nterm_start_index:%" PRIu64 "\r\n", r->stored,
                  r->first, r->term_start_index);
    buffer_printf(f->out, "elections:%" PRIu64 "\r\nstarts:%" PRIu64 "\r\nentries_proposed:%" PRIu64 "\r\n",
                  r->elections, r->starts, r->entries_proposed);
    buffer_printf(f->out,
                  "inflight_bytes:%" PRIu64 "\r\nlog_tail_bytes:%" PRIu64 "\r\ndigest_mismatches:%" PRIu64 "\r\n",
                  r->inflight_bytes, r->tail_bytes, r->digest_mismatches);
    buffer_printf(f->out, "feature_level:%u\r\nfeature_level_max:%u\r\n", r->feature_level, r->feature_level_max);
    buffer_printf(f->out, "digest_agreed:%" PRIu64 "\r\nquarantined:%" PRIu64 "\r\ndigests_disputed:%" PRIu64 "\r\n",
                  r->digest_agreed, r->quarantined, r->disputed);
    buffer_printf(f->out, "rebuild:%s\r\nrebuilds:%" PRIu64 "\r\n", r->rebuild, r->rebuilds);
    buffer_printf(f->out, "frames_sent:%" PRIu64 "\r\nframes_received:%" PRIu64 "\r\nframes_dropped:%" PRIu64 "\r\n",
                  r->frames_sent, r->frames_received, r->frames_dropped);
    buffer_printf(f->out, "wal_writes:%" PRIu64 "\r\nwal_bytes:%" PRIu64 "\r\nwal_segments:%" PRIu64 "\r\n",
                  r->wal_writes, r->wal_bytes, r->wal_segments);
    buffer_printf(f->out,
                  "wal_disk_bytes:%" PRIu64 "\r\nwal_sync_last_us:%" PRIu64 "\r\nwal_sync_avg_us:%" PRIu64 "\r\n",
                  r->wal_disk_bytes, r->wal_last_us, r->wal_ewma_us);
    buffer_printf(f->out, "wal_sync_max_us:%" PRIu64 "\r\n", r->wal_max_us);
}

/* Who may read from memory and until when, and how reads were answered. */
static void lockstep_reads(const struct facts *f)
{
    const struct node_stats *n = &f->node;
    const struct replica_info *r = &f->replica;
    const bool local = strcmp(r->local_reads, "none") == 0;
    buffer_printf(f->out, "local_reads:%d\r\nlocal_reads_off:%s\r\nlocal_reads_left_us:%" PRIu64 "\r\n", local ? 1 : 0,
                  local ? "" : r->local_reads, r->local_left_us);
    buffer_printf(f->out, "exposed:%" PRIu64 "\r\ntransfers:%" PRIu64 "\r\ntransfer_to:%" PRIu64 "\r\n", r->exposed,
                  r->transfers, r->transfer_to);
    buffer_printf(f->out, "reads_local:%" PRIu64 "\r\nreads_waited:%" PRIu64 "\r\nreads_session:%" PRIu64 "\r\n",
                  n->reads_local, n->reads_waited, n->reads_session);
    buffer_printf(f->out, "reads_stale:%" PRIu64 "\r\nreads_too_stale:%" PRIu64 "\r\n", n->reads_stale,
                  n->reads_too_stale);
    buffer_printf(f->out, "reads_confirmed:%" PRIu64 "\r\nreads_riding:%" PRIu64 "\r\nread_rounds:%" PRIu64 "\r\n",
                  n->reads_confirmed, n->reads_riding, r->read_rounds);
}

static void lockstep_snapshots(const struct facts *f)
{
    const struct replica_info *r = &f->replica;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t now_s = (uint64_t)now.tv_sec;
    const uint64_t at_s = r->snapshot.time_ms / 1000;
    buffer_printf(f->out, "snapshot_index:%" PRIu64 "\r\nsnapshot_term:%" PRIu64 "\r\nsnapshot_bytes:%" PRIu64 "\r\n",
                  r->snapshot.index, r->snapshot.term, r->snapshot.file_bytes);
    buffer_printf(f->out, "snapshot_age_s:%" PRIu64 "\r\nsnapshot_last_us:%" PRIu64 "\r\n",
                  r->snapshot.index > 0 && now_s > at_s ? now_s - at_s : 0, r->snapshot_us);
    buffer_printf(f->out, "snapshot_in_progress:%d\r\nsnapshot_written_bytes:%" PRIu64 "\r\n",
                  r->snapshot_taking ? 1 : 0, r->snapshot_bytes_written);
    buffer_printf(f->out, "snapshots_taken:%" PRIu64 "\r\nsnapshots_failed:%" PRIu64 "\r\n", r->snapshots_taken,
                  r->snapshots_failed);
    buffer_printf(f->out, "snapshot_put_off:%d\r\nsnapshots_put_off:%" PRIu64 "\r\nsnapshots_overdue:%" PRIu64 "\r\n",
                  r->snapshot_put_off ? 1 : 0, r->snapshots_put_off, r->snapshots_overdue);
    buffer_printf(f->out, "snapshot_slice_max_us:%" PRIu64 "\r\nsnapshot_stall_max_us:%" PRIu64 "\r\n",
                  r->snapshot_slice_max_us, f->node.snapshot_stall_max_us);
    buffer_printf(f->out, "snapshot_stall_max_cpu_us:%" PRIu64 "\r\n", f->node.snapshot_stall_max_cpu_us);
    buffer_printf(f->out, "log_bytes_since_snapshot:%" PRIu64 "\r\nlog_start:%" PRIu64 "\r\n", r->log_bytes_since,
                  r->log_start);
}

static void lockstep_loop(const struct facts *f)
{
    const struct loop_figures *l = &f->node.loop;

    buffer_printf(f->out, "loop_stall_last_us:%" PRIu64 "\r\nloop_stall_max_us:%" PRIu64 "\r\n", l->last, l->max);
    buffer_printf(f->out, "loop_stall_max_own_us:%" PRIu64 "\r\nloop_stall_max_cpu_us:%" PRIu64 "\r\n", l->max_own,
                  l->max_cpu);
    buffer_printf(f->out, "loop_stalls_over_10ms:%" PRIu64 "\r\nloop_stalls_own_over_10ms:%" PRIu64 "\r\n",
                  l->over_10ms, l->own_over_10ms);
    buffer_printf(f->out, "loop_core_wait_us:%" PRIu64 "\r\n", l->core_wait);
}

static void lockstep_transfers(const struct facts *f)
{
    const struct replica_info *r = &f->replica;

    buffer_printf(f->out, "snapshot_sends:%u\r\nsnapshot_sent_bytes:%" PRIu64 "\r\n", r->snapshot_sends,
                  r->snapshot_bytes_sent);
    buffer_printf(f->out,
                  "snapshot_fetch:%s\r\nsnapshot_fetch_index:%" PRIu64 "\r\nsnapshot_fetch_bytes:%" PRIu64
                  "\r\nsnapshot_fetch_total:%" PRIu64 "\r\n",
                  r->snapshot_fetch, r->snapshot_fetch_index, r->snapshot_fetch_bytes, r->snapshot_fetch_total);
    buffer_printf(f->out,
                  "snapshot_installs:%" PRIu64 "\r\nsnapshot_resumed:%" PRIu64 "\r\nsnapshot_received_bytes:%" PRIu64
                  "\r\nsnapshot_received_again_bytes:%" PRIu64 "\r\nsnapshot_install_last_us:%" PRIu64 "\r\n",
                  r->snapshot_installs, r->snapshot_resumed, r->snapshot_bytes_received, r->snapshot_bytes_again,
                  r->snapshot_install_us);
}

static void section_lockstep(const struct facts *f)
{
    const struct node_stats *n = &f->node;
    const struct store *store = node_store(f->owner->node);
    lockstep_raft(f);
    buffer_printf(f->out, "revision:%" PRIu64 "\r\ncluster_time_ms:%" PRIu64 "\r\ndigest:%016" PRIx64 "\r\n",
                  store_revision(store), store_time_ms(store), store_digest(store));
    buffer_printf(f->out, "commands_executed:%" PRIu64 "\r\nbatches:%" PRIu64 "\r\nbatched_commands:%" PRIu64 "\r\n",
                  n->commands_executed, n->batches, n->batched_commands);
    buffer_printf(f->out,
                  "batch_commands_last:%" PRIu64 "\r\nbatch_commands_avg:%.2f\r\nbatch_commands_max:%" PRIu64 "\r\n",
                  n->batch_commands_last, n->batch_commands_ewma, n->batch_commands_max);
    buffer_printf(f->out, "forwarded_out:%" PRIu64 "\r\nforwarded_in:%" PRIu64 "\r\n", n->forwarded_out,
                  n->forwarded_in);
    lockstep_reads(f);
    buffer_printf(f->out, "replica_reads_confirmed:%" PRIu64 "\r\n", f->replica.reads_confirmed);
    buffer_printf(f->out, "unknown_outcomes:%" PRIu64 "\r\ntryagain:%" PRIu64 "\r\n", n->unknown_outcomes, n->tryagain);
    lockstep_loop(f);
    lockstep_snapshots(f);
    lockstep_transfers(f);
    lockstep_peers(f);
}

static const struct section {
    const char *name, *title;
    void (*write)(const struct facts *facts);
} sections[] = {
    {"server", "Server", section_server},
    {"clients", "Clients", section_clients},
    {"memory", "Memory", section_memory},
    {"persistence", "Persistence", section_persistence},
    {"stats", "Stats", section_stats},
    {"replication", "Replication", section_replication},
    {"cpu", "CPU", section_cpu},
    {"cluster", "Cluster", section_cluster},
    {"keyspace", "Keyspace", section_keyspace},
    {"lockstep", "Lockstep", section_lockstep},
};

static bool section_wanted(const struct section *section, const struct call *call)
{
    bool wanted = call->argc == 1;
    for (unsigned i = 1; i < call->argc && !wanted; i++) {
        wanted = argument_is(call->argv[i], section->name) || argument_is(call->argv[i], "all") ||
                 argument_is(call->argv[i], "default") || argument_is(call->argv[i], "everything");
    }
    return wanted;
}

static void run_info(struct call *call)
{
    struct facts facts;
    struct resp_buffer text;
    resp_buffer_init(&text);
    facts_get(&facts, call->session->owner, &text);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (section_wanted(&sections[i], call)) {
            buffer_printf(&text, "%s# %s\r\n", text.len > 0 ? "\r\n" : "", sections[i].title);
            sections[i].write(&facts);
        }
    }
    call_text(call, &text);
    resp_buffer_fini(&text);
}

const struct command command_family_info[] = {
    {"info", -1, COMMAND_LOADING | COMMAND_STALE, "server", "1.0.0", "Get information and statistics about the server",
     "O(1)", "", run_info, NULL},
    {.name = NULL},
};
