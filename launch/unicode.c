#include "launch/bpe_priv.h"

#include <utf8proc.h>

/* White space by Unicode, of which utf8proc's categories name a part. */
static bool is_space(utf8proc_int32_t c, utf8proc_category_t category)
{
    return (c >= 9 && c <= 13) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

fbi_char_kind fbi_char_at(const unsigned char *s, size_t n, size_t *used)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t bytes = utf8proc_iterate(s, n < 8 ? (utf8proc_ssize_t)n : 8, &c);
    *used = bytes > 0 ? (size_t)bytes : 1; /* a byte that is no UTF-8 stands alone */
    if (bytes <= 0)
        return FBI_CHAR_OTHER;
    utf8proc_category_t category = utf8proc_category(c);
    if (is_space(c, category))
        return FBI_CHAR_SPACE;
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
        return FBI_CHAR_LETTER;
    bool number = category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
    return number ? FBI_CHAR_NUMBER : FBI_CHAR_OTHER;
}
