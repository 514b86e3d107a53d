/* The subcommands of `lockstep` and their exit codes. Each takes its own arguments (argv[0] is the subcommand's name),
 * prints to stdout and stderr, and returns the exit code of the process. */
#ifndef LOCKSTEP_CLI_COMMAND_H
#define LOCKSTEP_CLI_COMMAND_H

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,     /* it could not be done: no connection, a node died, ... */
    EXIT_USAGE = 2,      /* the command line is wrong */
    EXIT_PARTLY = 3,     /* done, but with error replies, or with nodes that are down */
    EXIT_NOT_LOOKED = 4, /* nothing bad was found, but not all could be looked at */
};

int command_dev(int argc, char **argv);
int command_status(int argc, char **argv);
int command_transfer(int argc, char **argv);
int command_cli(int argc, char **argv);
int command_member(int argc, char **argv);
int command_upgrade(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_dump(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_archive(int argc, char **argv);
int command_check(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_recover(int argc, char **argv);

#endif
