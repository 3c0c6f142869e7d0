/* For tests that let HDF5 read damaged files. Read by the address sanitizer: HDF5 1.10 forgets what
 * it had read of an object that turns out to be damaged; what our own code forgets is still found.
 */
#ifndef TESTS_IO_FORGETS_PRIV_H
#define TESTS_IO_FORGETS_PRIV_H

const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

#endif
