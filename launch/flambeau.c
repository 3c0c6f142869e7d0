/* The `flambeau` command: a table of sub-commands. */
#include "launch/commands_priv.h"

#include <flambeau/core/tensor/context.h>

#include <stdio.h>
#include <string.h>

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments, *about;
} commands[] = {
    {"run", fbi_cmd_run, "-n RANKS PROGRAM ...", "start a program on several ranks"},
    {"submit", fbi_cmd_submit, "slurm|pbs|lsf PROGRAM ...", "put a program into a batch queue"},
    {"data", fbi_cmd_data, "import|show|check|split ...", "make and look at datasets"},
    {"checkpoint", fbi_cmd_checkpoint, "show|verify DIR", "look at checkpoints"},
    {"doctor", fbi_cmd_doctor, "", "what this machine has, what is missing, how to get it"},
    {"ops", fbi_cmd_ops, "", "the operators of this build"},
    {"version", cmd_version, "", "version of this build"},
    {"help", cmd_help, "[COMMAND]", "this text, or a command's own"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void print_usage(FILE *to)
{
    fprintf(to, "flambeau COMMAND ...: distributed training in C\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %-26s %s\n", commands[i].name, commands[i].arguments,
                commands[i].about);
    fprintf(to, "\n`flambeau COMMAND --help` tells a command's options.\n");
}

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    int version = fb_version();
    printf("flambeau %d.%d.%d (%s)\n", version / 10000, version / 100 % 100, version % 100,
           FBI_BUILD_TEXT);
    return FBI_EXIT_OK;
}

static int cmd_help(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stdout);
        return FBI_EXIT_OK;
    }
    const struct command *command = find_command(argv[1]);
    if (!command || command->run == cmd_help || command->run == cmd_version) {
        print_usage(command ? stdout : stderr);
        return command ? FBI_EXIT_OK : FBI_EXIT_USAGE;
    }
    char *help[] = {argv[1], "--help", NULL};
    return command->run(2, help);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return FBI_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    else if (!strcmp(name, "--version"))
        name = "version";
    if (!strcmp(name, "rank"))
        return fbi_cmd_rank(argc - 1, argv + 1); /* nothing for a person */
    const struct command *command = find_command(name);
    if (!command) {
        fprintf(stderr, "flambeau: no command \"%s\": `flambeau help` lists them\n", name);
        return FBI_EXIT_USAGE;
    }
    return command->run(argc - 1, argv + 1);
}
