/* Where the control plane's server is, as text for the environment: there and back, and what is no
 * such text. */
#include "tests/check.h"

#include <arpa/inet.h>

#include "comm/invitation_priv.h"

static void a_text_says_all(void **state)
{
    (void)state;
    fbi_invitation in, out;
    char text[FBI_INVITATION_TEXT], address[INET6_ADDRSTRLEN];
    assert_true(fbi_invitation_new(&in));
    assert_false(fbi_invitation_write(&in, text)); /* nowhere to go */
    fbi_invitation_list(&in, 4711);
    assert_true(in.n > 0);
    assert_true(fbi_invitation_write(&in, text));
    assert_true(fbi_invitation_read(&out, text));
    assert_memory_equal(in.token, out.token, sizeof in.token);
    assert_int_equal(in.n, out.n);
    for (int i = 0; i < in.n; i++) {
        assert_int_equal(ntohs(out.address[i].sin6_port), 4711);
        assert_memory_equal(&in.address[i].sin6_addr, &out.address[i].sin6_addr, 16);
    }
    /* The loopback comes last, and IPv4 is written as people know it. */
    inet_ntop(AF_INET6, &in.address[in.n - 1].sin6_addr, address, sizeof address);
    assert_true(!strcmp(address, "::1") || !strncmp(address, "::ffff:127.", 11));
    assert_non_null(strstr(text, "::ffff:127.0.0.1"));
}

static void two_tokens_differ(void **state)
{
    (void)state;
    fbi_invitation a, b;
    assert_true(fbi_invitation_new(&a) && fbi_invitation_new(&b));
    assert_memory_not_equal(a.token, b.token, sizeof a.token);
}

static void other_texts_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "00112233445566778899aabbccddeeff",
        "00112233445566778899aabbccddeeff 4711",
        "00112233445566778899aabbccddee 4711 ::1",
        "00112233445566778899aabbccddeexx 4711 ::1",
        "00112233445566778899aabbccddeeff 0 ::1",
        "00112233445566778899aabbccddeeff 65536 ::1",
        "00112233445566778899aabbccddeeff 4711 node07",
    };
    fbi_invitation in;
    assert_true(fbi_invitation_read(&in, "00112233445566778899aabbccddeeff 4711 ::1"));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (fbi_invitation_read(&in, texts[i]))
            fail_msg("taken: \"%s\"", texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_says_all),
        cmocka_unit_test(two_tokens_differ),
        cmocka_unit_test(other_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
