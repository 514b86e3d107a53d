/* lockstep: the operator's command line. Dispatches to the subcommands, knows nothing else. */
#include <stdio.h>
#include <string.h>

#include "cmd/lockstep/command.h"

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct subcommand subcommands[] = {
    {"dev", command_dev, "run a local cluster in the foreground"},
    {"status", command_status, "show every node of a running cluster"},
    {"transfer", command_transfer, "hand leadership to another node"},
    {"cli", command_cli, "send commands: interactive, from stdin, or one"},
    {"member", command_member, "add, promote, demote, remove and list nodes"},
    {"upgrade", command_upgrade, "switch on what newer versions bring"},
    {"check", command_check, "compare the content of all replicas"},
    {"backup", command_backup, "copy the content of a running cluster to a file"},
    {"archive", command_archive, "keep a base backup and all log entries since"},
    {"restore", command_restore, "make a new cluster from a backup or an archive"},
    {"recover", command_recover, "make a new cluster from a survivor when a majority is lost"},
    {"verify", command_verify, "check logs, snapshots, backups and archives offline"},
    {"dump", command_dump, "print log entries, snapshots and backups offline"},
    {"bench", command_bench, "load a Redis-protocol server and measure it"},
};
#define N_SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static void usage(FILE *out)
{
    fputs("Usage: lockstep COMMAND [OPTION]...\n"
          "Operate a Lockstep cluster: a strongly consistent cache that speaks the Redis protocol.\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < N_SUBCOMMANDS; i++) {
        fprintf(out, "  %-9s %s\n", subcommands[i].name, subcommands[i].summary);
    }
    fputs("  help      show this, or the help of a command: lockstep help bench\n\n"
          "Options:\n"
          "  --help     show this\n"
          "  --version  show the version\n\n"
          "Every command explains itself: lockstep COMMAND --help\n\n"
          "Exit codes: 0 done; 1 failed; 2 wrong command line; 3 done, but with error replies or nodes that are down;\n"
          "4 (verify) not all could be looked at. Each command's help is exact.\n"
          "A first try: lockstep dev --nodes 3   then, elsewhere: lockstep status; lockstep cli SET greeting hello\n",
          out);
}

static const struct subcommand *subcommand_find(const char *name)
{
    for (size_t i = 0; i < N_SUBCOMMANDS; i++) {
        if (strcmp(subcommands[i].name, name) == 0) {
            return &subcommands[i];
        }
    }
    return NULL;
}

static int unknown(const char *name)
{
    fprintf(stderr, "lockstep: unknown command \"%s\" (lockstep --help lists them)\n", name);
    return EXIT_USAGE;
}

static int help(int argc, char **argv)
{
    if (argc < 3) {
        usage(stdout);
        return EXIT_OK;
    }
    const struct subcommand *subcommand = subcommand_find(argv[2]);
    if (subcommand == NULL) {
        return unknown(argv[2]);
    }
    char flag[] = "--help";
    char *arguments[] = {argv[2], flag, NULL};
    return subcommand->run(2, arguments);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        return help(argc, argv);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        puts("lockstep " LOCKSTEP_VERSION);
        return EXIT_OK;
    }
    const struct subcommand *subcommand = subcommand_find(argv[1]);
    if (subcommand == NULL) {
        return unknown(argv[1]);
    }
    char name[64]; /* getopt puts it in front of its messages */
    snprintf(name, sizeof(name), "lockstep %s", subcommand->name);
    argv[1] = name;
    return subcommand->run(argc - 1, argv + 1);
}
