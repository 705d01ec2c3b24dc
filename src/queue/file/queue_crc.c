/* CRC-32C (RFC 3720 B.4), the sum over a journal record: by the processor where it has an instruction for it,
 * else by tables, eight bytes at a step. */
#include "queue_journal.h"

#include <pthread.h>

enum { STEP = 8 };
static const uint32_t POLYNOMIAL = 0x82f63b78; /* reflected */

static uint32_t table[STEP][256]; /* [k][b]: the byte b with k zero bytes after it */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int k = 1; k < STEP; k++)
            table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 255];
}

static uint32_t step(uint32_t crc, const unsigned char *p)
{
    crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
           table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
}

static uint32_t by_table(uint32_t crc, const unsigned char *p, size_t n)
{
    pthread_once(&once, fill_table);
    for (; n >= STEP; p += STEP, n -= STEP)
        crc = step(crc, p);
    for (; n > 0; p++, n--)
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_processor(uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t wide = crc;

    for (; n >= STEP; p += STEP, n -= STEP) {
        uint64_t word;

        memcpy(&word, p, STEP);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    for (crc = (uint32_t)wide; n > 0; p++, n--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t by_processor(uint32_t crc, const unsigned char *p, size_t n)
{
    return by_table(crc, p, n);
}

static bool has_instruction(void)
{
    return false;
}
#endif

uint32_t queue_crc(uint32_t crc, struct bytes text)
{
    const unsigned char *p = (const unsigned char *)text.p;

    return ~(has_instruction() ? by_processor(~crc, p, text.n) : by_table(~crc, p, text.n));
}

uint32_t queue_crc_by_table(uint32_t crc, struct bytes text)
{
    return ~by_table(~crc, (const unsigned char *)text.p, text.n);
}
