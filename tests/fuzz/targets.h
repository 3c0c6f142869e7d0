/* Readers of foreign bytes, each as a function of one input. */
#ifndef TESTS_FUZZ_TARGETS_H
#define TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_target {
    const char *name; /* also of its folder of inputs */
    void (*run)(const uint8_t *data, size_t n);
} fuzz_target;

extern const fuzz_target fuzz_targets[];
extern const int n_fuzz_targets;

/* The target of this name, or NULL. */
const fuzz_target *fuzz_find(const char *name);
/* That of checkpoints (manifest.c). */
void fuzz_manifest(const uint8_t *data, size_t size);
/* Remove what targets have written. */
void fuzz_clean(void);

#endif
