/* A PLC that does the handshake over Modbus TCP, on libmodbus. It shares nothing with the gateway but the register map:
 * map.h is made of the CSV that is meant for import into PLC tools.
 *
 * Standard output is one line an event, `name key=value ...`, text last:
 *   state us= online= reason= overrun= session=   when one of them changes; online=0 reason=-1: no answer
 *   result number= us= judgement= reason= accept= depth= trigger= recipe= score= threshold= seq= epoch= part=
 *   trigger number= us=          taken number= status= us=          recipe number= status= active= us=
 *   done results= torn= gaps= overwritten= reads=
 * `us` is microseconds of CLOCK_REALTIME when it was first seen.
 *
 * --stall-after K --stall-s S: after K results neither read nor write for so long.  --reset: reset an overrun.
 * --keep: acknowledge nothing.  --patient: connect again and again instead of ending when the gateway is gone.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <modbus.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "map.h"

#define STATUS_SIZE (LG_RESULT_NUMBER_END + 1)
#define NO_ANSWER -1
#define RESET 1

struct options {
    const char *host, *service, *part;
    int unit, results, recipe, stall_after;
    double seconds, poll_ms, heartbeat_ms, timeout_ms, trigger_ms, stall_s;
    bool little_bytes, little_words, resets, keeps, patient;
};

struct plc {
    struct options opt;
    modbus_t *bus;
    uint16_t status[STATUS_SIZE];
    uint16_t heartbeat, ack, trigger, asked;
    bool has_result, resetting, recipe_told;
    uint16_t held;
    int online, reason, overrun, session;
    int64_t beat_us, triggered_us;
    unsigned long results, torn, gaps, overwritten, reads;
};

static volatile sig_atomic_t ended;

static void end(int number) {
    (void)number;
    ended = 1;
}

static int64_t clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void sleep_us(int64_t us) {
    if (us > 0) {
        struct timespec wait = {us / 1000000, us % 1000000 * 1000};
        nanosleep(&wait, NULL);
    }
}

/* A value of `size` registers in the configured orders. */
static uint64_t value(const struct plc *plc, int address, int size) {
    uint64_t number = 0;
    for (int place = 0; place < size; place++) {
        int from = plc->opt.little_words ? size - 1 - place : place;
        uint16_t word = plc->status[address + from];
        if (plc->opt.little_bytes && size > 1) word = (uint16_t)(word << 8 | word >> 8);
        number = number << 16 | word;
    }
    return number;
}

static void text(const struct plc *plc, int address, int size, char *into) {
    for (int place = 0; place < size; place++) {
        uint16_t word = plc->status[address + place];
        into[2 * place] = (char)(plc->opt.little_bytes ? word & 0xFF : word >> 8);
        into[2 * place + 1] = (char)(plc->opt.little_bytes ? word >> 8 : word & 0xFF);
    }
    into[2 * size] = 0;
}

static bool bit(const struct plc *plc, int place) { return plc->status[LG_STATUS] >> place & 1; }

static void tell_state(struct plc *plc, int online, int reason, int overrun, int session) {
    if (online == plc->online && reason == plc->reason && overrun == plc->overrun && session == plc->session) return;
    plc->online = online, plc->reason = reason, plc->overrun = overrun, plc->session = session;
    printf("state us=%" PRId64 " online=%d reason=%d overrun=%d session=%d\n", clock_us(CLOCK_REALTIME), online, reason,
           overrun, session);
}

static void tell_result(const struct plc *plc) {
    char part[2 * LG_PART_ID_LENGTH + 1];
    text(plc, LG_PART_ID, LG_PART_ID_LENGTH, part);
    printf("result number=%u us=%" PRId64 " judgement=%u reason=%u accept=%d depth=%u trigger=%u recipe=%u"
           " score=%" PRIu64 " threshold=%" PRIu64 " seq=%" PRIu64 " epoch=%" PRIu64 " part=%s\n",
           plc->status[LG_RESULT_NUMBER], clock_us(CLOCK_REALTIME), plc->status[LG_JUDGEMENT], plc->status[LG_REASON],
           bit(plc, LG_BIT_ACCEPT), plc->status[LG_QUEUE_DEPTH], plc->status[LG_TRIGGER_NUMBER_ECHO],
           plc->status[LG_RESULT_RECIPE], value(plc, LG_SCORE, LG_SCORE_LENGTH),
           value(plc, LG_THRESHOLD, LG_THRESHOLD_LENGTH), value(plc, LG_STATION_SEQ, LG_STATION_SEQ_LENGTH),
           value(plc, LG_EPOCH, LG_EPOCH_LENGTH), part);
}

/* The whole block in one request; whether it can be believed. */
static bool read_status(struct plc *plc) {
    if (modbus_read_registers(plc->bus, 0, STATUS_SIZE, plc->status) != STATUS_SIZE) return false;
    plc->reads++;
    if (plc->status[LG_RESULT_NUMBER] != plc->status[LG_RESULT_NUMBER_END]) {
        plc->torn++;
        return true;
    }
    /* A gateway that was started again knows nothing of what was held before. */
    if (plc->status[LG_SESSION] != plc->session) plc->has_result = false;
    tell_state(plc, bit(plc, LG_BIT_ONLINE), plc->status[LG_ONLINE_REASON], bit(plc, LG_BIT_OVERRUN),
               plc->status[LG_SESSION]);
    return true;
}

/* Take a result once, by its number; returns whether there is one to acknowledge. */
static bool take_result(struct plc *plc) {
    uint16_t number = plc->status[LG_RESULT_NUMBER];
    if (number != plc->status[LG_RESULT_NUMBER_END] || !bit(plc, LG_BIT_RESULT_VALID)) return false;
    if (plc->has_result && number == plc->held) return !plc->opt.keeps && plc->ack != number;
    /* What is held may only change after it was acknowledged. */
    if (plc->has_result && plc->ack != plc->held) plc->overwritten++;
    if (plc->has_result && number != plc->held % 65535 + 1) plc->gaps++;
    plc->held = number, plc->has_result = true;
    plc->results++;
    tell_result(plc);
    return !plc->opt.keeps;
}

static bool write_cyclic(struct plc *plc) {
    uint16_t words[LG_RECIPE_WANTED - LG_PLC_HEARTBEAT + 1] = {0};
    words[0] = plc->heartbeat;
    words[LG_ACK_NUMBER - LG_PLC_HEARTBEAT] = plc->ack;
    words[LG_COMMAND - LG_PLC_HEARTBEAT] = plc->resetting ? RESET : 0;
    words[LG_RECIPE_WANTED - LG_PLC_HEARTBEAT] = (uint16_t)plc->opt.recipe;
    int size = (int)(sizeof words / sizeof *words);
    return modbus_write_registers(plc->bus, LG_PLC_HEARTBEAT, size, words) == size;
}

/* Part id and number in one request: the number comes last, and starts it. */
static bool write_trigger(struct plc *plc) {
    uint16_t words[LG_TRIGGER_NUMBER - LG_TRIGGER_PART_ID + 1] = {0};
    char part[2 * LG_TRIGGER_PART_ID_LENGTH + 1] = {0};
    plc->trigger = plc->trigger % 65535 + 1;
    snprintf(part, sizeof part, "%s%u", plc->opt.part, plc->trigger);
    for (int place = 0; place < LG_TRIGGER_PART_ID_LENGTH; place++) {
        uint8_t first = (uint8_t)part[2 * place], second = (uint8_t)part[2 * place + 1];
        words[place] = (uint16_t)(plc->opt.little_bytes ? second << 8 | first : first << 8 | second);
    }
    int size = (int)(sizeof words / sizeof *words);
    words[size - 1] = plc->trigger;
    plc->triggered_us = clock_us(CLOCK_MONOTONIC);
    plc->asked = plc->trigger;
    printf("trigger number=%u us=%" PRId64 "\n", plc->trigger, clock_us(CLOCK_REALTIME));
    return modbus_write_registers(plc->bus, LG_TRIGGER_PART_ID, size, words) == size;
}

static void look_at_answers(struct plc *plc) {
    if (plc->asked && plc->status[LG_TRIGGER_ACK] == plc->asked) {
        printf("taken number=%u status=%u us=%" PRId64 "\n", plc->asked, plc->status[LG_TRIGGER_STATUS],
               clock_us(CLOCK_REALTIME));
        plc->asked = 0;
    }
    bool settled = plc->status[LG_RECIPE_WANTED_ECHO] == plc->opt.recipe && plc->status[LG_RECIPE_STATUS] > 1;
    if (plc->opt.recipe && settled && !plc->recipe_told) {
        plc->recipe_told = true;
        printf("recipe number=%d status=%u active=%u us=%" PRId64 "\n", plc->opt.recipe, plc->status[LG_RECIPE_STATUS],
               plc->status[LG_RECIPE_NUMBER], clock_us(CLOCK_REALTIME));
    }
}

static bool has_all(const struct plc *plc) {
    return plc->opt.results && plc->results >= (unsigned long)plc->opt.results;
}

/* One cycle of the PLC's program; false if the gateway did not answer. */
static bool cycle(struct plc *plc, bool *again) {
    int64_t now_us = clock_us(CLOCK_MONOTONIC);
    *again = false;
    if (!read_status(plc)) return false;
    look_at_answers(plc);
    bool beats = now_us - plc->beat_us >= (int64_t)(plc->opt.heartbeat_ms * 1000);
    if (beats) plc->beat_us = now_us, plc->heartbeat++;
    *again = take_result(plc);
    if (*again) plc->ack = plc->held;
    bool resetting = plc->opt.resets && bit(plc, LG_BIT_OVERRUN) && !plc->resetting;
    bool changed = resetting != plc->resetting;
    plc->resetting = resetting;
    if ((beats || *again || changed) && !write_cyclic(plc)) return false;
    bool due = plc->opt.trigger_ms > 0 && now_us - plc->triggered_us >= (int64_t)(plc->opt.trigger_ms * 1000);
    return !due || has_all(plc) || plc->asked || !bit(plc, LG_BIT_READY) || write_trigger(plc);
}

static bool begin(struct plc *plc) {
    uint16_t before;
    if (modbus_connect(plc->bus) != 0) return false;
    /* Go on after the number that was written last, so that the first trigger is one. */
    if (modbus_read_registers(plc->bus, LG_TRIGGER_NUMBER, 1, &before) != 1) return false;
    if (before > plc->trigger) plc->trigger = before;
    return true;
}

static int fail(const char *what) {
    fprintf(stderr, "plc: %s\n", what);
    return 2;
}

static int play(struct plc *plc) {
    int64_t start_us = clock_us(CLOCK_MONOTONIC), end_us = start_us + (int64_t)(plc->opt.seconds * 1e6);
    bool connected = begin(plc), stalled = false;
    if (!connected && !plc->opt.patient) return fail(modbus_strerror(errno));
    while (!ended) {
        int64_t cycle_us = clock_us(CLOCK_MONOTONIC);
        bool again = false;
        if (plc->opt.seconds > 0 && cycle_us >= end_us) break;
        if (!connected || !cycle(plc, &again)) {
            tell_state(plc, 0, NO_ANSWER, plc->overrun, plc->session);
            if (!plc->opt.patient) return fail(modbus_strerror(errno));
            modbus_close(plc->bus);
            connected = begin(plc);
            if (!connected) modbus_close(plc->bus);
            again = false;
        }
        if (has_all(plc)) break;
        if (plc->opt.stall_after && !stalled && plc->results >= (unsigned long)plc->opt.stall_after) {
            stalled = true;
            sleep_us((int64_t)(plc->opt.stall_s * 1e6));
        } else if (!again) {
            sleep_us(cycle_us + (int64_t)(plc->opt.poll_ms * 1000) - clock_us(CLOCK_MONOTONIC));
        }
    }
    printf("done results=%lu torn=%lu gaps=%lu overwritten=%lu reads=%lu\n", plc->results, plc->torn, plc->gaps,
           plc->overwritten, plc->reads);
    return 0;
}

static int usage(void) {
    return fail("plc HOST PORT [--results N] [--seconds S] [--poll-ms MS] [--heartbeat-ms MS] [--timeout-ms MS]"
                " [--unit U] [--trigger-ms MS --part PREFIX] [--recipe N] [--stall-after K --stall-s S] [--reset]"
                " [--keep] [--patient] [--little-bytes] [--little-words]");
}

static bool parse(int count, char **words, struct options *opt) {
    static const struct option known[] = {
        {"results", 1, 0, 'n'},      {"seconds", 1, 0, 's'},      {"poll-ms", 1, 0, 'p'},
        {"heartbeat-ms", 1, 0, 'h'}, {"timeout-ms", 1, 0, 't'},   {"unit", 1, 0, 'u'},
        {"trigger-ms", 1, 0, 'T'},   {"part", 1, 0, 'P'},         {"recipe", 1, 0, 'R'},
        {"stall-after", 1, 0, 'a'},  {"stall-s", 1, 0, 'S'},      {"reset", 0, 0, 'r'},
        {"keep", 0, 0, 'k'},         {"patient", 0, 0, 'x'},      {"little-bytes", 0, 0, 'b'},
        {"little-words", 0, 0, 'w'}, {0, 0, 0, 0},
    };
    for (int found; (found = getopt_long(count, words, "", known, NULL)) != -1;) {
        switch (found) {
            case 'n': opt->results = atoi(optarg); break;
            case 's': opt->seconds = atof(optarg); break;
            case 'p': opt->poll_ms = atof(optarg); break;
            case 'h': opt->heartbeat_ms = atof(optarg); break;
            case 't': opt->timeout_ms = atof(optarg); break;
            case 'u': opt->unit = atoi(optarg); break;
            case 'T': opt->trigger_ms = atof(optarg); break;
            case 'P': opt->part = optarg; break;
            case 'R': opt->recipe = atoi(optarg); break;
            case 'a': opt->stall_after = atoi(optarg); break;
            case 'S': opt->stall_s = atof(optarg); break;
            case 'r': opt->resets = true; break;
            case 'k': opt->keeps = true; break;
            case 'x': opt->patient = true; break;
            case 'b': opt->little_bytes = true; break;
            case 'w': opt->little_words = true; break;
            default: return false;
        }
    }
    if (count - optind != 2) return false;
    opt->host = words[optind], opt->service = words[optind + 1];
    return true;
}

int main(int count, char **words) {
    struct plc plc = {.online = -1};
    plc.opt = (struct options){.part = "part-", .unit = 1, .poll_ms = 10, .heartbeat_ms = 100};
    plc.opt.timeout_ms = 1000, plc.opt.stall_s = 5;
    if (!parse(count, words, &plc.opt)) return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    plc.bus = modbus_new_tcp_pi(plc.opt.host, plc.opt.service);
    if (plc.bus == NULL) return fail(modbus_strerror(errno));
    int64_t timeout_us = (int64_t)(plc.opt.timeout_ms * 1000);
    modbus_set_response_timeout(plc.bus, (uint32_t)(timeout_us / 1000000), (uint32_t)(timeout_us % 1000000));
    modbus_set_slave(plc.bus, plc.opt.unit);
    int status = play(&plc);
    modbus_close(plc.bus);
    modbus_free(plc.bus);
    return status;
}
