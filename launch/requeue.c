/* Putting the job that we run in back into the queue of its batch system. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch/run_priv.h"

/* Whether a command ended well. Slurm ends scontrol, too, with the job that it requeues. */
static bool call(char *const *words)
{
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execvp(words[0], words);
        fprintf(stderr, "run: cannot start %s\n", words[0]);
        _exit(127);
    }
    return child > 0 && waitpid(child, &status, 0) == child &&
           (WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

/* Many sites let only operators rerun a job: then its script is submitted once more, to begin after
 * this one. */
static bool requeue_pbs(char *job)
{
    char after[160], *script = getenv("FLAMBEAU_JOB_SCRIPT");
    bool array = getenv("PBS_ARRAY_INDEX"); /* its script would start all of it */
    snprintf(after, sizeof after, "depend=afterany:%s", job);
    if (call((char *[]){"qrerun", job, NULL}))
        return true;
    return script && !array &&
           call((char *[]){"qsub", "-v", FBI_RUN_AGAIN "=1", "-W", after, script, NULL});
}

bool fbi_requeue(const fbi_job *job)
{
    char number[sizeof job->where.job];
    const char *title = fbi_place_name(job->where.place);
    bool good = true;
    snprintf(number, sizeof number, "%s", job->where.job);
    if (job->where.place < FBI_PLACE_SLURM) {
        fbi_run_say(job, "--requeue: this is no batch job; start it again by hand");
        return false;
    }
    /* Said before: Slurm then ends what is left of the job. */
    fbi_run_say(job, "%s job %s goes back into the queue", title, number);
    if (job->where.place == FBI_PLACE_SLURM)
        good = call((char *[]){"scontrol", "requeue", number, NULL});
    else if (job->where.place == FBI_PLACE_PBS)
        good = requeue_pbs(number);
    /* LSF: `bsub -Q 75` sees to it when we end with 75 */
    if (!good)
        fbi_run_say(job, "%s job %s could not be requeued: submit it again", title, number);
    return good;
}
