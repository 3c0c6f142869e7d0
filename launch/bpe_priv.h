/* GPT-2's byte-level byte-pair encoding: Sennrich et al., arXiv:1508.07909; Radford et al. 2019. */
#ifndef FLAMBEAU_LAUNCH_BPE_PRIV_H
#define FLAMBEAU_LAUNCH_BPE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fbi_bpe fbi_bpe;

/* Tokens of a text; the caller frees `token`. */
typedef struct fbi_tokens {
    uint16_t *token;
    int64_t n, room;
} fbi_tokens;

/* From the contents of encoder.json (token: number) and vocab.bpe (merges, the first first). NULL:
 * `text` says what is wrong. */
fbi_bpe *fbi_bpe_new(const char *vocab, const char *merges, char *text, size_t size);
void fbi_bpe_free(fbi_bpe *bpe);
/* Add the tokens of n bytes, which need not be UTF-8. false: no memory. */
bool fbi_bpe_encode(fbi_bpe *bpe, const char *bytes, size_t n, fbi_tokens *tokens);
/* Number of <|endoftext|>, or -1. */
int fbi_bpe_end(const fbi_bpe *bpe);
bool fbi_tokens_add(fbi_tokens *tokens, int token);

/* What a character is to GPT-2's pattern; of the n bytes at s, *used are its. */
typedef enum fbi_char_kind {
    FBI_CHAR_LETTER,
    FBI_CHAR_NUMBER,
    FBI_CHAR_SPACE,
    FBI_CHAR_OTHER
} fbi_char_kind;
fbi_char_kind fbi_char_at(const unsigned char *s, size_t n, size_t *used);

#endif
