/* Batch scripts: what Slurm, PBS and LSF are asked for in comments, and one command. */
#include <inttypes.h>
#include <string.h>

#include "launch/submit_priv.h"

static int64_t per_node(const fbi_batch *b)
{
    return b->ranks / b->nodes;
}

/* h:mm:ss, or h:mm rounded up */
static void put_time(FILE *to, double seconds, bool with_seconds)
{
    long s = (long)seconds;
    if (with_seconds)
        fprintf(to, "%ld:%02ld:%02ld\n", s / 3600, s / 60 % 60, s % 60);
    else
        fprintf(to, "%ld:%02ld\n", (s + 59) / 3600, (s + 59) / 60 % 60);
}

static void put_text(FILE *to, const char *begin, const char *text)
{
    if (text)
        fprintf(to, "%s%s\n", begin, text);
}

/* A directive for each line of `extra`. */
static void put_extra(FILE *to, const char *mark, const char *extra)
{
    for (const char *at = extra; at && *at;) {
        int n = (int)strcspn(at, "\n");
        if (n)
            fprintf(to, "%s %.*s\n", mark, n, at);
        at += n + (at[n] == '\n');
    }
}

static void slurm(const fbi_batch *b, FILE *to)
{
    put_text(to, "#SBATCH --job-name=", b->name);
    fprintf(to, "#SBATCH --nodes=%" PRId64 "\n", b->nodes);
    fprintf(to, "#SBATCH --ntasks=%" PRId64 "\n", b->ranks);
    fprintf(to, "#SBATCH --ntasks-per-node=%" PRId64 "\n", per_node(b));
    if (b->cpus)
        fprintf(to, "#SBATCH --cpus-per-task=%" PRId64 "\n", b->cpus);
    if (b->gpus)
        fprintf(to, "#SBATCH --gpus-per-node=%" PRId64 "\n", b->gpus);
    put_text(to, "#SBATCH --mem=", b->memory);
    if (b->time > 0) {
        fprintf(to, "#SBATCH --time=");
        put_time(to, b->time, true);
        /* B: the script's own process, which is the launcher; it tells the ranks. */
        fprintf(to, "#SBATCH --signal=B:USR1@%.0f\n", b->warn);
    }
    put_text(to, "#SBATCH --account=", b->account);
    put_text(to, "#SBATCH --partition=", b->queue);
    put_text(to, "#SBATCH --array=", b->array);
    fprintf(to, "#SBATCH --output=%s/slurm-%s.txt\n", b->dir, b->array ? "%A_%a" : "%j");
    fprintf(to, "#SBATCH --open-mode=append\n#SBATCH --%srequeue\n", b->once ? "no-" : "");
    if (b->elastic)
        fprintf(to, "#SBATCH --no-kill\n"); /* a lost node does not end the job */
    put_extra(to, "#SBATCH", b->extra);
}

static void pbs(const fbi_batch *b, FILE *to)
{
    put_text(to, "#PBS -N ", b->name);
    fprintf(to, "#PBS -l select=%" PRId64 ":ncpus=%" PRId64 ":mpiprocs=%" PRId64, b->nodes,
            per_node(b) * (b->cpus ? b->cpus : 1), per_node(b));
    if (b->gpus)
        fprintf(to, ":ngpus=%" PRId64, b->gpus);
    if (b->memory)
        fprintf(to, ":mem=%s", b->memory);
    fprintf(to, "\n#PBS -l place=scatter\n");
    if (b->time > 0) {
        fprintf(to, "#PBS -l walltime=");
        put_time(to, b->time, true);
    }
    put_text(to, "#PBS -A ", b->account);
    put_text(to, "#PBS -q ", b->queue);
    put_text(to, "#PBS -J ", b->array);
    fprintf(to, "#PBS -j oe\n#PBS -o %s/\n#PBS -r %c\n", b->dir, b->once ? 'n' : 'y');
    put_extra(to, "#PBS", b->extra);
}

static void lsf(const fbi_batch *b, FILE *to)
{
    if (b->array)
        fprintf(to, "#BSUB -J \"%s[%s]\"\n", b->name, b->array);
    else
        put_text(to, "#BSUB -J ", b->name);
    fprintf(to, "#BSUB -n %" PRId64 "\n", b->ranks);
    fprintf(to, "#BSUB -R \"span[ptile=%" PRId64 "]\"\n", per_node(b));
    if (b->cpus)
        fprintf(to, "#BSUB -R \"affinity[core(%" PRId64 ")]\"\n", b->cpus);
    if (b->gpus)
        fprintf(to, "#BSUB -gpu \"num=%" PRId64 ":mode=shared\"\n", b->gpus);
    put_text(to, "#BSUB -M ", b->memory);
    if (b->time > 0) {
        fprintf(to, "#BSUB -W ");
        put_time(to, b->time, false);
        fprintf(to, "#BSUB -wa USR1\n#BSUB -wt ");
        put_time(to, b->warn, false);
    }
    put_text(to, "#BSUB -P ", b->account);
    put_text(to, "#BSUB -q ", b->queue);
    fprintf(to, "#BSUB -o %s/lsf-%s.txt\n", b->dir, b->array ? "%J_%I" : "%J");
    if (!b->once)
        fprintf(to, "#BSUB -r\n#BSUB -Q \"75\"\n"); /* requeued when it ends with 75 */
    put_extra(to, "#BSUB", b->extra);
}

const fbi_batch_kind *fbi_batch_find(const char *name)
{
    static const fbi_batch_kind kinds[] = {
        {"slurm", "Slurm", "sbatch", "SLURM_ARRAY_TASK_ID", false, false, slurm},
        {"pbs", "PBS", "qsub", "PBS_ARRAY_INDEX", false, true, pbs},
        {"lsf", "LSF", "bsub", "LSB_JOBINDEX", true, false, lsf},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

/* --- the command --- */

static void put_word(FILE *to, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_@%+=:,./-";
    if (*word && strspn(word, plain) == strlen(word)) {
        fputs(word, to);
        return;
    }
    fputc('"', to);
    for (; *word; word++)
        fprintf(to, "%s%c", strchr("\"$`\\", *word) ? "\\" : "", *word);
    fputc('"', to);
}

static void put_number(FILE *to, const char *option, int64_t value)
{
    if (value)
        fprintf(to, " %s %" PRId64, option, value);
}

static void put_run(const fbi_batch_kind *kind, const fbi_batch *b, FILE *to)
{
    fprintf(to, "exec ");
    put_word(to, b->self);
    fprintf(to, " run --dir ");
    if (b->array)
        fprintf(to, "%s/\"$%s\"", b->dir, kind->index);
    else
        put_word(to, b->dir);
    if (b->elastic)
        fprintf(to, " --elastic %s", b->elastic);
    else
        put_number(to, "-n", b->ranks);
    put_number(to, "--gpus", b->gpus);
    put_number(to, "--shards", b->shards);
    put_number(to, "--threads", b->threads);
    put_number(to, "--restart", b->restart);
    if (kind->no_signal && b->time > 0)
        fprintf(to, " --stop-after %.0f", b->time - b->warn);
    if (!b->once)
        fprintf(to, " --requeue");
    fprintf(to, " \\\n   ");
    if (!*b->program)
        fprintf(to, " %s", b->command);
    for (char **word = b->program; *word; word++) {
        fputc(' ', to);
        put_word(to, *word);
    }
    fputc('\n', to);
}

void fbi_batch_script(const fbi_batch_kind *kind, const fbi_batch *b, const char *path, FILE *to)
{
    fprintf(to, "#!/bin/bash\n");
    kind->directives(b, to);
    fprintf(
        to,
        "# Made by `flambeau submit %s`. Told to stop (before the time limit, by preemption), the\n"
        "# ranks save one checkpoint and end with 75: the job goes back into the queue and on.\n"
        "set -e\ncd ",
        kind->name);
    put_word(to, b->here);
    fprintf(to, "\nexport FLAMBEAU_JOB_SCRIPT=");
    put_word(to, path);
    fputc('\n', to);
    if (b->setup)
        fprintf(to, "%s%s", b->setup, b->setup[strlen(b->setup) - 1] == '\n' ? "" : "\n");
    put_run(kind, b, to);
}
