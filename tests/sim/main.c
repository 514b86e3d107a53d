/* build/sim: runs seeds or scenarios, on several processes; build/sim_planted: shows that planted bugs are caught. */
#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim_plants.h"
#include "tests/sim/sim_run.h"

#define JOBS_MAX 64u
#define STALE_KEPT 32u

struct arguments {
    uint64_t seed, seeds;
    unsigned n_nodes, jobs;
    uint64_t seconds;
    const char *scenario; /* NULL: random faults */
    const char *plant;
    uint64_t random_seeds; /* with a plant */
    bool verbose, twice, wild_clocks;
};

/* A seed with stale reads that a clock beyond the bound excuses. */
struct stale_seed {
    uint64_t seed, reads, late_us;
    char first[128];
};

/* What a worker tells its parent; shared memory, one writer each. */
struct worker {
    uint64_t seed; /* being run */
    uint64_t done;
    bool failed;
    bool ran_all; /* its seeds; what fails then is the end of the process: a leak */
    char invariant[48];
    char text[1024];
    uint64_t ops_ok, ops_unknown, ops_checked, too_hard, events, elections, crashes, faults, simulated_us,
        recovery_max_us;
    uint64_t local_reads, wild_episodes, stale, stale_seeds, late_max_us;
    uint64_t tally[SIM_TALLIES], tally_seeds[SIM_TALLIES]; /* how often, and in how many seeds at all */
    struct stale_seed stale_kept[STALE_KEPT];
};

struct pool {
    struct worker *workers; /* shared */
    pid_t pids[JOBS_MAX];
    bool *stop; /* shared: a violation was found */
};

static const char usage[] =
    "usage: sim [options]\n"
    "  Runs simulated clusters of real replicas and stores; everything depends on the seed alone.\n"
    "  --seeds N        run N seeds (100)\n"
    "  --seed S         beginning with S (1)\n"
    "  --nodes N        1, 3 or 5 nodes (drawn from the seed)\n"
    "  --time SECONDS   simulated seconds with faults, per seed (10)\n"
    "  --scenario NAME  a named scenario instead of random faults; all: each of them\n"
    "  --wild-clocks    the rate of one node's clock leaves the bound, again and again; stale reads are counted, and\n"
    "                   are violations if they could have been prevented (docs/CONSISTENCY.md)\n"
    "  --list           list the scenarios and planted bugs\n"
    "  --jobs N         processes (2)\n"
    "  --twice          run each seed twice and compare the traces: is the simulation deterministic?\n"
    "  --plant NAME     sim_planted only: break one rule and expect a violation in each of the seeds of the scenario "
    "that\n"
    "                   is about it (or of --scenario); all: each of them\n"
    "  --random N       with --plant: also say which of N seeds with random faults is the first to show it\n"
    "  --verbose        print every event (implies --jobs 1)\n"
    "Exit code 1: a violation was found (with --plant: some seed had none).\n";

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

/* --- A worker ------------------------------------------------------------------------------------------------------
 */

static void worker_note(struct worker *worker, const struct sim_run_result *result)
{
    worker->ops_ok += result->ops_ok;
    worker->ops_unknown += result->ops_unknown;
    worker->ops_checked += result->ops_checked;
    worker->too_hard += result->too_hard;
    worker->events += result->events;
    worker->elections += result->elections;
    worker->crashes += result->crashes;
    worker->faults += result->faults;
    worker->simulated_us += result->simulated_us;
    if (result->recovery_us > worker->recovery_max_us) {
        worker->recovery_max_us = result->recovery_us;
    }
    for (unsigned i = 0; i < SIM_TALLIES; i++) {
        worker->tally[i] += result->tally[i];
        worker->tally_seeds[i] += result->tally[i] > 0;
    }
    worker->local_reads += result->local_reads;
    worker->wild_episodes += result->wild_episodes;
    if (result->stale > 0) {
        struct stale_seed *kept = &worker->stale_kept[worker->stale_seeds++ % STALE_KEPT];

        *kept = (struct stale_seed){worker->seed, result->stale, result->late_max_us, ""};
        memcpy(kept->first, result->stale_text, sizeof kept->first);
    }
    worker->stale += result->stale;
    if (result->late_max_us > worker->late_max_us) {
        worker->late_max_us = result->late_max_us;
    }
    worker->done++;
}

static bool worker_run(struct worker *worker, const struct arguments *arguments, uint64_t seed, bool explain)
{
    const struct sim_scenario *scenario = arguments->scenario == NULL ? NULL : sim_scenario_find(arguments->scenario);
    const struct sim_options options = {.seed = seed,
                                        .n_nodes = arguments->n_nodes,
                                        .duration_us = arguments->seconds * 1000000,
                                        .verbose = arguments->verbose,
                                        .wild_clocks = arguments->wild_clocks};
    struct sim_run_result result;
    struct sim_run_result again;

    worker->seed = seed;
    sim_run(&options, scenario, explain, &result);
    if (arguments->twice && !result.violated) {
        sim_run(&options, scenario, explain, &again);
        if (again.trace != result.trace || again.events != result.events) {
            result.violated = true;
            snprintf(result.invariant, sizeof result.invariant, "determinism");
            snprintf(result.text, sizeof result.text,
                     "two runs of one seed differ (%" PRIu64 " and %" PRIu64 " events)", result.events, again.events);
            fprintf(stderr, "violation of \"determinism\": %s\n", result.text);
        }
    }
    if (result.violated) {
        memcpy(worker->invariant, result.invariant, sizeof worker->invariant);
        memcpy(worker->text, result.text, sizeof worker->text);
        worker->failed = true;
        return false;
    }
    worker_note(worker, &result);
    return true;
}

static void worker_main(struct worker *worker, const struct arguments *arguments, unsigned number, const bool *stop,
                        bool explain)
{
    for (uint64_t i = number; i < arguments->seeds && !*(const volatile bool *)stop; i += arguments->jobs) {
        if (!worker_run(worker, arguments, arguments->seed + i, explain)) {
            break;
        }
    }
    worker->ran_all = !worker->failed;
}

/* --- The parent ----------------------------------------------------------------------------------------------------
 */

static void print_replay(const struct arguments *arguments, uint64_t seed)
{
    printf("  replay: build/%s --seeds 1 --seed %" PRIu64 " --jobs 1", arguments->plant == NULL ? "sim" : "sim_planted",
           seed);
    if (arguments->scenario != NULL) {
        printf(" --scenario %s", arguments->scenario);
    } else {
        printf(" --time %" PRIu64, arguments->seconds);
    }
    if (arguments->wild_clocks) {
        printf(" --wild-clocks");
    }
    if (arguments->n_nodes != 0) {
        printf(" --nodes %u", arguments->n_nodes);
    }
    if (arguments->plant != NULL) {
        printf(" --plant %s", arguments->plant);
    }
    printf(" --verbose\n");
}

static void print_tally(const struct worker *sum)
{
    for (unsigned i = 0; i < SIM_TALLIES; i++) {
        printf("%s%" PRIu64 " %s (in %" PRIu64 " seeds)", i == 0 ? "  with " : ", ", sum->tally[i], sim_tally_names[i],
               sum->tally_seeds[i]);
    }
    printf("\n");
}

static void print_progress(const struct pool *pool, const struct arguments *arguments, double started, bool ended)
{
    struct worker sum = {0};

    for (unsigned i = 0; i < arguments->jobs; i++) {
        const struct worker *worker = &pool->workers[i];

        sum.done += worker->done;
        sum.ops_ok += worker->ops_ok;
        sum.ops_unknown += worker->ops_unknown;
        sum.ops_checked += worker->ops_checked;
        sum.too_hard += worker->too_hard;
        sum.elections += worker->elections;
        sum.crashes += worker->crashes;
        sum.faults += worker->faults;
        sum.simulated_us += worker->simulated_us;
        for (unsigned k = 0; k < SIM_TALLIES; k++) {
            sum.tally[k] += worker->tally[k];
            sum.tally_seeds[k] += worker->tally_seeds[k];
        }
        sum.local_reads += worker->local_reads;
        sum.wild_episodes += worker->wild_episodes;
        sum.stale += worker->stale;
        sum.stale_seeds += worker->stale_seeds;
        sum.late_max_us = worker->late_max_us > sum.late_max_us ? worker->late_max_us : sum.late_max_us;
        if (worker->recovery_max_us > sum.recovery_max_us) {
            sum.recovery_max_us = worker->recovery_max_us;
        }
    }
    printf("%s: %" PRIu64 "/%" PRIu64 " seeds, %.0f s simulated in %.1f s; %" PRIu64 " operations (%" PRIu64
           " unknown), %" PRIu64 " in linearizability checks (%" PRIu64 " keys given up), %" PRIu64 " faults, %" PRIu64
           " restarts, %" PRIu64 " leaders, slowest recovery %.2f s\n",
           arguments->scenario == NULL ? "random faults" : arguments->scenario, sum.done, arguments->seeds,
           (double)sum.simulated_us / 1e6, seconds_now() - started, sum.ops_ok, sum.ops_unknown, sum.ops_checked,
           sum.too_hard, sum.faults, sum.crashes, sum.elections, (double)sum.recovery_max_us / 1e6);
    if (arguments->scenario == NULL && ended) {
        print_tally(&sum);
    }
    if (arguments->wild_clocks) {
        printf("  wild clocks: %" PRIu64 " episodes; %" PRIu64 " reads from memory, %" PRIu64
               " of them stale, in %" PRIu64 " seeds; promised at most %.0f ms after the rate was far out\n",
               sum.wild_episodes, sum.local_reads, sum.stale, sum.stale_seeds, (double)sum.late_max_us / 1e3);
    }
    fflush(stdout);
}

/* Each seed whose stale reads are excused, and by what: by a clock that left the bound too short a time before, or too
 * little, for anybody to notice. */
static void print_stale_seeds(const struct pool *pool, const struct arguments *arguments)
{
    for (unsigned i = 0; i < arguments->jobs; i++) {
        const struct worker *worker = &pool->workers[i];

        for (uint64_t k = 0; k < worker->stale_seeds && k < STALE_KEPT; k++) {
            const struct stale_seed *kept = &worker->stale_kept[k];

            printf("  seed %" PRIu64 ": %" PRIu64 " stale reads, promised at most %.0f ms after the rate was far out; "
                   "the first by %s\n",
                   kept->seed, kept->reads, (double)kept->late_us / 1e3, kept->first);
        }
    }
}

/* A worker is gone: true if it failed. A signal counts as a failed assertion of the code under test. */
static bool worker_ended(struct worker *worker, int status)
{
    if (WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0 && !worker->failed)) {
        worker->failed = true;
        snprintf(worker->invariant, sizeof worker->invariant, worker->ran_all ? "leaks" : "assertions");
        snprintf(worker->text, sizeof worker->text,
                 WIFSIGNALED(status) ? "the process died of signal %d" : "the process ended with code %d",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return worker->failed;
}

static void pool_start(struct pool *pool, const struct arguments *arguments, bool explain)
{
    for (unsigned i = 0; i < arguments->jobs; i++) {
        fflush(stdout);
        pool->pids[i] = fork();
        if (pool->pids[i] < 0) {
            perror("fork");
            exit(2);
        }
        if (pool->pids[i] == 0) {
            if (!explain && freopen("/dev/null", "w", stderr) == NULL) {
                _exit(2);
            }
            worker_main(&pool->workers[i], arguments, i, pool->stop, explain);
            exit(pool->workers[i].failed ? 1 : 0);
        }
    }
}

/* Run all seeds; the worker that found a violation, with the lowest seed, or NULL. */
static const struct worker *pool_run(struct pool *pool, const struct arguments *arguments, bool explain)
{
    double started = seconds_now();
    double said = started;
    const struct worker *failed = NULL;
    unsigned running = arguments->jobs;

    memset(pool->workers, 0, JOBS_MAX * sizeof *pool->workers);
    *pool->stop = false;
    pool_start(pool, arguments, explain);
    while (running > 0) {
        const struct timespec nap = {0, 20000000};
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid <= 0) {
            nanosleep(&nap, NULL);
        }
        for (unsigned i = 0; i < arguments->jobs && pid > 0; i++) {
            if (pool->pids[i] == pid) {
                running--;
                *pool->stop = worker_ended(&pool->workers[i], status) || *pool->stop;
            }
        }
        if (explain && seconds_now() > said + 10) {
            said = seconds_now();
            print_progress(pool, arguments, started, false);
        }
    }
    for (unsigned i = 0; i < arguments->jobs; i++) {
        if (pool->workers[i].failed && (failed == NULL || pool->workers[i].seed < failed->seed)) {
            failed = &pool->workers[i];
        }
    }
    if (explain) {
        print_progress(pool, arguments, started, true);
        print_stale_seeds(pool, arguments);
    }
    return failed;
}

static int run_one(struct pool *pool, const struct arguments *arguments)
{
    const struct worker *failed = pool_run(pool, arguments, true);

    if (failed == NULL) {
        return 0;
    }
    printf("VIOLATION at seed %" PRIu64 ": %s: %s\n", failed->seed, failed->invariant, failed->text);
    print_replay(arguments, failed->seed);
    return 1;
}

static int run_scenarios(struct pool *pool, struct arguments *arguments)
{
    for (const struct sim_scenario *scenario = sim_scenarios; scenario->name != NULL; scenario++) {
        arguments->scenario = scenario->name;
        if (run_one(pool, arguments) != 0) {
            return 1;
        }
    }
    return 0;
}

/* --- Planted bugs --------------------------------------------------------------------------------------------------
 */

/* What became of a plant under one scenario, or under random faults. */
struct plant_hunt {
    uint64_t caught, first_seed;
    char what[256]; /* the first catch */
};

static void note_catch(struct plant_hunt *hunt, const struct worker *failed)
{
    if (hunt->caught++ == 0) {
        hunt->first_seed = failed->seed;
        snprintf(hunt->what, sizeof hunt->what, "\"%s\": %.150s", failed->invariant, failed->text);
    }
}

/* Each seed on its own: how many of them catch it? */
static void hunt_in_scenario(struct pool *pool, const struct arguments *arguments, struct plant_hunt *hunt)
{
    struct arguments one = *arguments;

    one.seeds = 1;
    one.jobs = 1;
    for (uint64_t i = 0; i < arguments->seeds; i++) {
        one.seed = arguments->seed + i;
        const struct worker *failed = pool_run(pool, &one, arguments->verbose);
        if (failed != NULL) {
            note_catch(hunt, failed);
        }
    }
}

/* How soon do random faults? */
static void hunt_at_random(struct pool *pool, const struct arguments *arguments, struct plant_hunt *hunt)
{
    struct arguments random = *arguments;

    random.scenario = NULL;
    random.seeds = arguments->random_seeds;
    const struct worker *failed = pool_run(pool, &random, false);
    if (failed != NULL) {
        note_catch(hunt, failed);
    }
}

static int run_plant(struct pool *pool, struct arguments *arguments, const struct sim_plant *plant)
{
    const double started = seconds_now();
    struct plant_hunt hunt = {0}, random = {0};

    sim_plant_select(plant);
    arguments->plant = plant->name;
    arguments->scenario = plant->scenario;
    hunt_in_scenario(pool, arguments, &hunt);
    if (arguments->random_seeds > 0) {
        hunt_at_random(pool, arguments, &random);
    }
    sim_plant_select(NULL);
    printf("%-20s %s in %" PRIu64 " of %" PRIu64 " seeds of %s; ", plant->name,
           hunt.caught == arguments->seeds ? "caught" : "NOT ALWAYS CAUGHT:", hunt.caught, arguments->seeds,
           plant->scenario);
    if (random.caught > 0) {
        printf("random faults: at seed %" PRIu64 "; ", random.first_seed);
    } else if (arguments->random_seeds > 0) {
        printf("random faults: in none of %" PRIu64 " seeds; ", arguments->random_seeds);
    }
    printf("%.1f s\n  %s\n", seconds_now() - started, hunt.caught > 0 ? hunt.what : plant->doc);
    if (hunt.caught > 0) {
        print_replay(arguments, hunt.first_seed);
    }
    fflush(stdout);
    return hunt.caught == arguments->seeds ? 0 : 1;
}

static int run_plants(struct pool *pool, struct arguments *arguments)
{
    const char *wanted = arguments->plant;
    const char *scenario = arguments->scenario;
    int result = 0;
    unsigned n = 0;

    for (const struct sim_plant *plant = sim_plants; plant->name != NULL; plant++) {
        struct sim_plant chosen = *plant;

        if (strcmp(wanted, "all") != 0 && strcmp(wanted, plant->name) != 0) {
            continue;
        }
        chosen.scenario = scenario != NULL ? scenario : plant->scenario;
        n++;
        result |= run_plant(pool, arguments, &chosen);
    }
    if (n == 0) {
        fprintf(stderr, "sim: no planted bug \"%s\" in this binary; see --list, and use sim_planted\n", wanted);
        return 2;
    }
    return result;
}

/* --- Arguments -----------------------------------------------------------------------------------------------------
 */

static void list(void)
{
    printf("Scenarios:\n");
    for (const struct sim_scenario *scenario = sim_scenarios; scenario->name != NULL; scenario++) {
        printf("  %-18s %u nodes: %s\n", scenario->name, scenario->n_nodes, scenario->doc);
    }
    printf("Planted bugs%s:\n", sim_plants[0].name == NULL ? " (none in this binary: use sim_planted)" : "");
    for (const struct sim_plant *plant = sim_plants; plant->name != NULL; plant++) {
        printf("  %-18s %s\n", plant->name, plant->doc);
    }
}

static uint64_t number(const char *text, const char *option, uint64_t low, uint64_t high)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != 0 || value < low || value > high) {
        fprintf(stderr, "sim: --%s wants a number from %" PRIu64 " to %" PRIu64 ", not \"%s\"\n", option, low, high,
                text);
        exit(2);
    }
    return value;
}

static void parse(struct arguments *arguments, int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},    {"seed", required_argument, NULL, 's'},
        {"nodes", required_argument, NULL, 'N'},    {"time", required_argument, NULL, 't'},
        {"scenario", required_argument, NULL, 'c'}, {"plant", required_argument, NULL, 'p'},
        {"random", required_argument, NULL, 'r'},   {"jobs", required_argument, NULL, 'j'},
        {"list", no_argument, NULL, 'l'},           {"twice", no_argument, NULL, '2'},
        {"verbose", no_argument, NULL, 'v'},        {"wild-clocks", no_argument, NULL, 'w'},
        {"help", no_argument, NULL, 'h'},           {0},
    };

    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 'n':
            arguments->seeds = number(optarg, "seeds", 1, UINT64_C(1000000000));
            break;
        case 's':
            arguments->seed = number(optarg, "seed", 0, UINT64_MAX / 2);
            break;
        case 'N':
            arguments->n_nodes = (unsigned)number(optarg, "nodes", 1, SIM_NODES_MAX);
            break;
        case 't':
            arguments->seconds = number(optarg, "time", 1, 3600);
            break;
        case 'c':
            arguments->scenario = optarg;
            break;
        case 'p':
            arguments->plant = optarg;
            break;
        case 'r':
            arguments->random_seeds = number(optarg, "random", 1, UINT64_C(1000000000));
            break;
        case 'j':
            arguments->jobs = (unsigned)number(optarg, "jobs", 1, JOBS_MAX);
            break;
        case '2':
            arguments->twice = true;
            break;
        case 'w':
            arguments->wild_clocks = true;
            break;
        case 'v':
            arguments->verbose = true;
            break;
        case 'l':
            list();
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sim: what is \"%s\"?\n%s", argv[optind], usage);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.seed = 1, .seeds = 100, .seconds = 10, .jobs = 2};
    struct pool pool;

    parse(&arguments, argc, argv);
    arguments.jobs = arguments.verbose ? 1 : arguments.jobs;
    if (arguments.scenario != NULL && strcmp(arguments.scenario, "all") != 0 &&
        sim_scenario_find(arguments.scenario) == NULL) {
        fprintf(stderr, "sim: no scenario \"%s\"; see --list\n", arguments.scenario);
        return 2;
    }
    pool.workers = shared(JOBS_MAX * sizeof *pool.workers);
    pool.stop = shared(sizeof *pool.stop);
    if (arguments.plant != NULL) {
        return run_plants(&pool, &arguments);
    }
    if (arguments.scenario != NULL && strcmp(arguments.scenario, "all") == 0) {
        return run_scenarios(&pool, &arguments);
    }
    return run_one(&pool, &arguments);
}
