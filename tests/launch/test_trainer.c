/* Options of the trainer: C, YAML and --set fill the same table, and what is wrong is told with its
 * place and the nearest name there is. */
#include "tests/check.h"

#include <unistd.h>

#include <flambeau/io/loader.h>

#include "launch/trainer_priv.h"

typedef struct model {
    int64_t width;
    double dropout;
    bool deep;
    const char *kind;
    int act;
} model;

static const fb_option model_rows[] = {
    {"width", FB_OPTION_COUNT, offsetof(model, width), .least = 1, .most = 4096},
    {"dropout", FB_OPTION_NUMBER, offsetof(model, dropout), .most = 0.99},
    {"deep", FB_OPTION_FLAG, offsetof(model, deep), .about = "flag"},
    {"kind", FB_OPTION_TEXT, offsetof(model, kind), .about = "text"},
    {"act", FB_OPTION_CHOICE, offsetof(model, act), .words = "relu gelu"},
    {0}};

/* A reader on fresh structs. */
typedef struct fixture {
    fb_trainer_options o;
    model m;
    fb_option_group groups[3];
    fbi_option_reader r;
    char path[64];
} fixture;

static void begin(fixture *f)
{
    *f = (fixture){.path = "/tmp/flambeau-test-XXXXXX"};
    f->groups[0] = (fb_option_group){"trainer", fbi_trainer_rows, &f->o};
    f->groups[1] = (fb_option_group){"model", model_rows, &f->m};
    f->r.groups = f->groups;
}

static void end(fixture *f)
{
    fbi_option_free(&f->r);
}

static bool read_text(fixture *f, const char *yaml)
{
    int fd = mkstemp(f->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, yaml, strlen(yaml)), (ssize_t)strlen(yaml));
    close(fd);
    bool good = fbi_yaml_read(&f->r, f->path);
    unlink(f->path);
    return good;
}

static void says(const fixture *f, const char *text)
{
    if (!strstr(f->r.wrong, text))
        fail_msg("no \"%s\" in \"%s\"", text, f->r.wrong);
}

/* The file is refused with this text, at this line. */
static void refused_yaml(const char *yaml, int line, const char *text)
{
    fixture f;
    char where[96];
    begin(&f);
    assert_false(read_text(&f, yaml));
    snprintf(where, sizeof where, "%s:%d: ", f.path, line);
    says(&f, where);
    says(&f, text);
    end(&f);
}

static void refused_set(const char *set, const char *text)
{
    fixture f;
    begin(&f);
    assert_false(fbi_option_assign(&f.r, set));
    says(&f, "--set ");
    says(&f, text);
    end(&f);
}

/* --- what is right --- */

static void a_file_fills_every_kind_of_option(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    bool good = read_text(&f, "# a comment\n"
                              "trainer:\n"
                              "  max_steps: 100\n"
                              "  max_time: '1:02:03.5'\n"
                              "  precision: bf16\n"
                              "  checkpoint: \"runs/a b\"\n"
                              "  quiet: yes\n"
                              "  monitor: ~\n"
                              "model: {width: 64, dropout: 0.25, deep: on, kind: '', act: gelu}\n");
    if (!good)
        fail_msg("%s", f.r.wrong);
    assert_int_equal(f.o.max_steps, 100);
    assert_true(f.o.max_time == 3723.5);
    assert_int_equal(f.o.precision, FB_PRECISION_BF16);
    assert_string_equal(f.o.checkpoint, "runs/a b");
    assert_true(f.o.quiet && f.m.deep);
    assert_null(f.o.monitor);
    assert_null(f.m.kind);
    assert_int_equal(f.m.width, 64);
    assert_true(f.m.dropout == 0.25);
    assert_int_equal(f.m.act, 2);
    end(&f);
}

static void an_empty_file_changes_nothing(void **state)
{
    (void)state;
    static const char *const files[] = {"", "# nothing\n", "---\n", "trainer:\n", "trainer: {}\n"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        fixture f;
        begin(&f);
        f.o.max_steps = 7;
        if (!read_text(&f, files[i]))
            fail_msg("\"%s\": %s", files[i], f.r.wrong);
        assert_int_equal(f.o.max_steps, 7);
        end(&f);
    }
}

static void every_row_is_a_field_that_both_ways_fill_alike(void **state)
{
    (void)state;
    for (const fb_option *row = fbi_trainer_rows; row->name; row++) {
        static const char *const values[] = {"", "5", "0.5", "1:30", "word", "true", ""};
        fixture set, yaml;
        char text[128], first[64];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(row->words ? row->words : "", " "),
                 row->words ? row->words : "");
        const char *value = row->kind == FB_OPTION_CHOICE ? first : values[row->kind];
        begin(&set);
        begin(&yaml);
        snprintf(text, sizeof text, "trainer.%s=%s", row->name, value);
        assert_true(fbi_option_assign(&set.r, text));
        snprintf(text, sizeof text, "trainer:\n  %s: %s\n", row->name, value);
        assert_true(read_text(&yaml, text));
        const fb_trainer_options none = {0};
        if (!memcmp(&set.o, &none, sizeof none))
            fail_msg("%s sets nothing", row->name);
        if (row->kind == FB_OPTION_TEXT) { /* two copies of one word */
            const char **a = (const char **)(void *)((char *)&set.o + row->offset);
            const char **b = (const char **)(void *)((char *)&yaml.o + row->offset);
            assert_string_equal(*a, *b);
            *a = *b = NULL;
        }
        if (memcmp(&set.o, &yaml.o, sizeof none) != 0)
            fail_msg("%s: YAML and --set differ", row->name);
        assert_non_null(row->about);
        end(&set);
        end(&yaml);
    }
}

static void a_loader_takes_options_of_a_configuration(void **state)
{
    (void)state;
    fixture f;
    fb_loader_options o = {.global_batch = 16};
    begin(&f);
    f.groups[1] = (fb_option_group){"data", fb_loader_option_rows(), &o};
    assert_true(read_text(&f, "data: {shuffle: true, shuffle_block: 64, weigh_by: target}\n"));
    assert_true(fbi_option_assign(&f.r, "data.bucket_window=50"));
    assert_true(o.shuffle && o.shuffle_block == 64 && o.bucket_window == 50);
    assert_string_equal(o.weigh_by, "target");
    assert_int_equal(o.global_batch, 16);
    for (const fb_option *row = fb_loader_option_rows(); row->name; row++) {
        static const char *const values[] = {"", "5", "0.5", "1:30", "word", "true", ""};
        const fb_loader_options none = {0};
        char text[128];
        snprintf(text, sizeof text, "data.%s=%s", row->name, values[row->kind]);
        o = none;
        assert_true(fbi_option_assign(&f.r, text));
        assert_memory_not_equal(&o, &none, sizeof none);
        assert_non_null(row->about);
    }
    end(&f);
}

static void single_options_win_over_files_wherever_they_stand(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    int fd = mkstemp(f.path);
    assert_int_equal(write(fd, "model: {width: 8, act: relu}\n", 29), 29);
    close(fd);
    char *argv[] = {"program",          "--set", "model.width=16", "--config", f.path,
                    "--set=model.deep", "--own", "value",          NULL};
    int argc = 8;
    bool helped = false;
    assert_true(fbi_option_arguments(&f.r, &argc, argv, NULL, true, &helped));
    unlink(f.path);
    assert_int_equal(f.m.width, 16);
    assert_int_equal(f.m.act, 1);
    assert_true(f.m.deep);
    assert_int_equal(argc, 3);
    assert_string_equal(argv[1], "--own");
    assert_string_equal(argv[2], "value");
    assert_null(argv[3]);
    end(&f);
}

/* --- what is wrong --- */

static void an_unknown_name_is_told_with_the_nearest(void **state)
{
    (void)state;
    refused_yaml("trainer:\n  max_epochs: 3\n  max_step: 5\n", 3,
                 "there is no option \"trainer.max_step\": did you mean \"max_steps\"?");
    refused_yaml("\ntrainr:\n  max_steps: 5\n", 2,
                 "there are no options \"trainr\": did you mean \"trainer\"?");
    refused_set("model.widht=3", "there is no option \"model.widht\": did you mean \"width\"?");
    refused_set("mdel.width=3", "there are no options \"mdel\": did you mean \"model\"?");
}

static void a_value_that_does_not_fit_is_told_with_what_would(void **state)
{
    (void)state;
    refused_yaml("trainer:\n  max_steps: many\n", 2,
                 "trainer.max_steps: \"many\": a whole number of at least 0 is needed");
    refused_yaml("model: {width: 0}\n", 1, "model.width: \"0\": a whole number from 1 to 4096");
    refused_set("model.width=3.5", "model.width: \"3.5\": a whole number from 1 to 4096");
    refused_set("model.dropout=nan", "model.dropout: \"nan\": a number from 0 to 0.99 is needed");
    refused_set("trainer.max_time=1:2:3:4:5", "a time (seconds, m:ss or h:mm:ss) of at least 0");
    refused_set("trainer.max_time=:1", "a time (seconds, m:ss or h:mm:ss) of at least 0");
    refused_set("model.deep=maybe", "model.deep: \"maybe\": true or false is needed");
    refused_set("trainer.on_nan=panic", "\"panic\": one of skip warn stop is needed");
    refused_set("trainer.max_steps", "trainer.max_steps needs a value: trainer.max_steps=VALUE");
    refused_set("trainer.max_steps=", "trainer.max_steps: \"\": a whole number");
    refused_set("max_steps=3", "GROUP.NAME=VALUE is needed, e.g. trainer.max_steps=100");
    refused_set("trainer", "GROUP.NAME=VALUE is needed");
}

static void a_file_that_is_no_mapping_of_groups_is_told_where(void **state)
{
    (void)state;
    refused_yaml("trainer:\n  max_steps: [1, 2]\n", 2,
                 "trainer.max_steps: one value is needed, here is a list");
    refused_yaml("trainer: {max_steps: {a: 1}}\n", 1, "one value is needed, here is a mapping");
    refused_yaml("trainer: {max_steps: *other}\n", 1, "here is an alias");
    refused_yaml("trainer: 5\n", 1, "\"trainer\" needs options (NAME: VALUE), here is a value");
    refused_yaml("- trainer\n", 1, "groups of options are needed (trainer: ...), here is a list");
    refused_yaml("trainer: {? [a] : 1}\n", 1, "the name of an option is needed, here is a list");
    refused_yaml("trainer:\n  quiet: true\n  quiet: false\n", 3, "trainer.quiet is given twice");
    refused_yaml("trainer:\n  quiet: true\ntrainer:\n  seed: 1\n", 3, "\"trainer\" is given twice");
    refused_yaml("trainer:\n  quiet: true\n bad\n", 3, "this is no YAML: ");
    refused_yaml("trainer:\n\tquiet: true\n", 2, "this is no YAML: ");
    refused_yaml("trainer: {quiet: true\n", 2, "this is no YAML: ");
    refused_yaml("trainer:\n---\ntrainer:\n", 2, "a second document: one is read");
    refused_yaml("trainer: {quiet: \"\xff\"}\n", 1, "this is no YAML: ");
}

static void a_command_line_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const struct {
        char *argument;
        const char *text;
    } cases[] = {{"--colour", "--colour: there is no such argument"},
                 {"--set", "--set: a value is needed"},
                 {"--config", "--config: a value is needed"},
                 {"--settle=1", "--settle=1: there is no such argument"},
                 {"--config=/nowhere.yaml", "--config /nowhere.yaml: No such file"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        bool helped = false;
        int argc = 2;
        char *argv[] = {"program", cases[i].argument, NULL};
        begin(&f);
        assert_false(fbi_option_arguments(&f.r, &argc, argv, NULL, false, &helped));
        assert_false(helped);
        says(&f, cases[i].text);
        end(&f);
    }
}

static void values_from_c_have_the_limits_of_the_others(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    assert_true(fbi_option_check(&f.r, &f.groups[0]));
    f.o.max_steps = -1;
    assert_false(fbi_option_check(&f.r, &f.groups[0]));
    says(&f, "options: trainer.max_steps: \"-1\": a whole number of at least 0 is needed");
    end(&f);
    begin(&f);
    f.o.on_nan = 4;
    assert_false(fbi_option_check(&f.r, &f.groups[0]));
    says(&f, "options: trainer.on_nan: 4: 0 or one of 3 values is needed: skip warn stop");
    end(&f);
    begin(&f);
    f.o.ema_decay = 1.5;
    assert_false(fbi_option_check(&f.r, &f.groups[0]));
    says(&f, "options: trainer.ema_decay: \"1.5\": a number from 0 to 1 is needed");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_fills_every_kind_of_option),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(every_row_is_a_field_that_both_ways_fill_alike),
        cmocka_unit_test(a_loader_takes_options_of_a_configuration),
        cmocka_unit_test(single_options_win_over_files_wherever_they_stand),
        cmocka_unit_test(an_unknown_name_is_told_with_the_nearest),
        cmocka_unit_test(a_value_that_does_not_fit_is_told_with_what_would),
        cmocka_unit_test(a_file_that_is_no_mapping_of_groups_is_told_where),
        cmocka_unit_test(a_command_line_that_makes_no_sense_is_refused),
        cmocka_unit_test(values_from_c_have_the_limits_of_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
