/* Without utf8proc: ASCII is told apart, and all other characters are taken for letters, as most
 * of them are in texts of Latin script. */
#include "launch/bpe_priv.h"

#include <ctype.h>

fbi_char_kind fbi_char_at(const unsigned char *s, size_t n, size_t *used)
{
    *used = 1;
    while (*s >= 0x80 && *used < n && (s[*used] & 0xc0) == 0x80)
        ++*used;
    if (*s >= 0x80 || isalpha(*s))
        return FBI_CHAR_LETTER;
    if (isdigit(*s))
        return FBI_CHAR_NUMBER;
    return (*s >= 9 && *s <= 13) || *s == ' ' ? FBI_CHAR_SPACE : FBI_CHAR_OTHER;
}
