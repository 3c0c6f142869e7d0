#!/usr/bin/env bash
# flambeau submit: the scripts of three batch systems, from options and from a file; shellcheck has nothing to say of
# them; what is handed over; what is refused and why.
set -euo pipefail
flambeau=${FLAMBEAU_BUILD:?}/bin/flambeau
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
source "${FLAMBEAU_SOURCE:?}/tests/expect.sh"
lines() { # each must be a line of the script
    local line
    for line; do
        grep -qxF -- "$line" script || { echo "no line \"$line\" in:"; cat script; exit 1; }
    done
}
check() { # the script of `submit` with these arguments
    "$flambeau" submit "$1" --print "${@:2}" >script
    bash -n script
    if command -v shellcheck >/dev/null; then shellcheck script; fi
}
all=(-N 2 -n 8 -g 4 --cpus 6 --memory 64G --time 8:00:00 --warn 5:00 --account abc --queue main --dir out/a)

check slurm "${all[@]}" --extra "--exclusive
--constraint=x" --setup "module load openmpi" ./train "a b" "it's" '$x' 'a"\b' --set model.width=3
lines "#SBATCH --job-name=train" "#SBATCH --nodes=2" "#SBATCH --ntasks=8" "#SBATCH --ntasks-per-node=4" \
    "#SBATCH --cpus-per-task=6" "#SBATCH --gpus-per-node=4" "#SBATCH --mem=64G" "#SBATCH --time=8:00:00" \
    "#SBATCH --signal=B:USR1@300" "#SBATCH --account=abc" "#SBATCH --partition=main" "#SBATCH --requeue" \
    "#SBATCH --output=$PWD/out/a/slurm-%j.txt" "#SBATCH --open-mode=append" "#SBATCH --exclusive" \
    "#SBATCH --constraint=x" "module load openmpi" "cd $PWD" \
    "exec $flambeau run --dir $PWD/out/a -n 8 --gpus 4 --restart 3 --requeue \\" \
    '    ./train "a b" "it'"'"'s" "\$x" "a\"\\b" --set model.width=3'
[ ! -e out ] # nothing was written
check slurm --once --restart 0 --elastic 1:4 --partition debug -N 4 --array 0-3 -V 8 -t 2 -- ./train
lines "#SBATCH --no-requeue" "#SBATCH --no-kill" "#SBATCH --partition=debug" "#SBATCH --array=0-3" \
    "#SBATCH --output=$PWD/runs/train/slurm-%A_%a.txt" \
    "exec $flambeau run --dir $PWD/runs/train/\"\$SLURM_ARRAY_TASK_ID\" --elastic 1:4 --shards 8 --threads 2 \\" "    ./train"
if grep -qE -- "--(time|signal|requeue)" script; then cat script; exit 1; fi

check pbs "${all[@]}" --array 1-3 ./train
lines "#PBS -N train" "#PBS -l select=2:ncpus=24:mpiprocs=4:ngpus=4:mem=64G" "#PBS -l place=scatter" \
    "#PBS -l walltime=8:00:00" "#PBS -A abc" "#PBS -q main" "#PBS -J 1-3" "#PBS -o $PWD/out/a/" "#PBS -r y" \
    "export FLAMBEAU_JOB_SCRIPT=$PWD/out/a/job.sh" \
    "exec $flambeau run --dir $PWD/out/a/\"\$PBS_ARRAY_INDEX\" -n 8 --gpus 4 --restart 3 --stop-after 28500 --requeue \\"
check pbs --once ./train
lines "#PBS -l select=1:ncpus=1:mpiprocs=1" "#PBS -r n"

check lsf "${all[@]}" ./train
lines "#BSUB -J train" "#BSUB -n 8" '#BSUB -R "span[ptile=4]"' '#BSUB -R "affinity[core(6)]"' \
    '#BSUB -gpu "num=4:mode=shared"' "#BSUB -M 64G" "#BSUB -W 8:00" "#BSUB -wa USR1" "#BSUB -wt 0:05" "#BSUB -P abc" \
    "#BSUB -q main" "#BSUB -o $PWD/out/a/lsf-%J.txt" "#BSUB -r" '#BSUB -Q "75"'
check lsf --array 1-3 --time 90 --warn 30 ./train
lines '#BSUB -J "train[1-3]"' "#BSUB -W 0:02" "#BSUB -wt 0:01" "#BSUB -o $PWD/runs/train/lsf-%J_%I.txt"

cat >job.yaml <<'YAML'
job:
  nodes: 2
  time: 2:00:00
  setup: |
    module load a
    module load b
  command: ./train --config a.yaml
YAML
check slurm --config job.yaml --nodes 4 --name other
lines "#SBATCH --nodes=4" "#SBATCH --ntasks=4" "#SBATCH --time=2:00:00" "#SBATCH --job-name=other" "module load a" \
    "module load b" "    ./train --config a.yaml"
check slurm --config=job.yaml ./mine
lines "    ./mine" "#SBATCH --job-name=mine"
check slurm --config job.yaml
lines "#SBATCH --job-name=train"

# What is handed over
mkdir tools
printf '#!/bin/sh\necho "sbatch $*"; cat "$1" >given\n' >tools/sbatch
printf '#!/bin/sh\necho "qsub $*"; exit 3\n' >tools/qsub
printf '#!/bin/sh\necho "bsub $*"; cat >given\n' >tools/bsub
chmod +x tools/*
tools=$PWD/tools:$PATH
expect 0 "sbatch $PWD/runs/a/job.sh" env PATH="$tools" "$flambeau" submit slurm --dir runs/a ./train
cmp given runs/a/job.sh
expect 0 "bsub" env PATH="$tools" "$flambeau" submit lsf --dir runs/b ./train
cmp given runs/b/job.sh
expect 1 "submit: qsub has refused $PWD/runs/c/job.sh" env PATH="$tools" "$flambeau" submit pbs --dir runs/c ./train
expect 1 "submit: no sbatch in PATH: is there Slurm on this machine? The script is $PWD/runs/d/job.sh" \
    env PATH=/nowhere "$flambeau" submit slurm --dir runs/d ./train

# What is refused
submit() { "$flambeau" submit "$@"; }
expect 2 "flambeau submit slurm|pbs|lsf" submit
expect 0 "--account        who pays" submit --help
expect 0 "--account        who pays" "$flambeau" help submit
expect 0 "--account        who pays" submit slurm --help
expect 2 'submit: "sge": slurm, pbs or lsf is needed' submit sge ./train
expect 2 "submit: no program given" submit slurm --nodes 2
expect 2 'there is no option "job.node": did you mean "nodes"?' submit slurm --node 2 ./train
expect 2 'submit: --nodes: job.nodes: "two": a whole number from 1' submit slurm --nodes two ./train
expect 2 'job.time: "8 h": a time (seconds, m:ss or h:mm:ss)' submit slurm --time "8 h" ./train
expect 2 "submit: --nodes: a value is needed" submit slurm --nodes
expect 2 "submit: -x: there is no such option" submit slurm -x ./train
expect 2 "submit: --config: the name of a file is needed" submit slurm --config
expect 2 "submit: --config absent: No such file" submit slurm --config absent
echo 'job: {node: 2}' >bad.yaml
expect 2 'submit: bad.yaml:1: there is no option "job.node": did you mean "nodes"?' submit slurm --config bad.yaml
expect 2 "3 ranks on 2 nodes: the same number on each is needed" submit slurm -N 2 -n 3 ./train
expect 2 "8 ranks, but 4 shards" submit slurm -n 8 -V 4 ./train
expect 2 "--warn 120 s: the job lasts 90 s only" submit slurm --time 90 ./train
for option in name dir account queue array memory elastic; do
    expect 2 "submit: --$option \"a b\": no blanks, quotes, \$ or # here" submit slurm --$option "a b" ./train
done
echo "submit: all of it"
