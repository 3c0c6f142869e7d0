/* Streams and events. */
#include "tests/cudasim/sim.h"

using namespace sim;
typedef cudaError_t E;

extern "C" {
E cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int p)
{
    ENTER(cudaStreamCreateWithPriority);
    *s = new_stream(t_dev, !(f & cudaStreamNonBlocking), p);
    st.handles.insert(*s);
    return cudaSuccess;
}
E cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithPriority(s, 0, 0);
}
E cudaStreamCreateWithFlags(cudaStream_t *s, unsigned f)
{
    return cudaStreamCreateWithPriority(s, f, 0);
}
E cudaDeviceGetStreamPriorityRange(int *lo, int *hi)
{
    *lo = 0;
    *hi = -5;
    return cudaSuccess;
}
E cudaStreamGetPriority(cudaStream_t h, int *p)
{
    ENTER(cudaStreamGetPriority);
    STREAM(s, h);
    *p = s->prio;
    return cudaSuccess;
}
E cudaStreamDestroy(cudaStream_t h)
{
    ENTER(cudaStreamDestroy);
    STREAM(s, h);
    if (!st.handles.erase(s))
        return ret(cudaErrorInvalidResourceHandle);
    s->destroyed = true;
    return cudaSuccess;
}
E cudaStreamSynchronize(cudaStream_t h)
{
    ENTER(cudaStreamSynchronize);
    STREAM(s, h);
    if (E e = no_capture(me, s))
        return ret(e);
    uint64_t q = s->enq;
    return ret(wait(lk, me, [=] { return s->done >= q; }));
}
E cudaStreamQuery(cudaStream_t h)
{
    ENTER(cudaStreamQuery);
    STREAM(s, h);
    if (E e = no_capture(me, s))
        return ret(e);
    if (s->done < s->enq && rnd() & 1)
        run_one(lk);
    return s->done >= s->enq ? st.sticky : cudaErrorNotReady;
}
E cudaDeviceSynchronize(void)
{
    ENTER(cudaDeviceSynchronize);
    if (E e = no_capture(me, nullptr))
        return ret(e);
    return ret(drain(lk, me, t_dev));
}
E cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}
E cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f)
{
    ENTER(cudaEventCreateWithFlags);
    *e = new CUevent_st;
    st.all_events.emplace_back(*e);
    (*e)->timing = !(f & cudaEventDisableTiming);
    st.events.insert(*e);
    return cudaSuccess;
}
E cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, 0);
}
#define EVENT(e)                                                              \
    if (!st.events.count(e)) {                                                \
        finding(me, cudaSuccess, "invalid or destroyed event %p", (void *)e); \
        return ret(cudaErrorInvalidResourceHandle);                           \
    }
E cudaEventDestroy(cudaEvent_t e)
{
    ENTER(cudaEventDestroy);
    EVENT(e) st.events.erase(e);
    return cudaSuccess;
} /* the object stays: a queued record may still write its time */
E cudaEventRecord(cudaEvent_t e, cudaStream_t h)
{
    ENTER(cudaEventRecord);
    STREAM(s, h);
    EVENT(e)
    if (s->cap) {
        e->cap = s->cap;
        e->front = s->cap->front[(size_t)s->slot];
        return cudaSuccess;
    }
    Op op{};
    op.api = me;
    uint64_t q = s->enq + 1;
    op.run = [=](Op &, Lock &) {
        if (e->s == s && e->seq == q)
            e->t = now() + S().charged;
        return DONE;
    };
    e->cap.reset();
    e->s = s;
    e->seq = q;
    e->t = -1;
    return ret(submit(lk, s, std::move(op)));
}
E cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t h, unsigned)
{
    return cudaEventRecord(e, h);
}
E cudaStreamWaitEvent(cudaStream_t h, cudaEvent_t e, unsigned)
{
    ENTER(cudaStreamWaitEvent);
    STREAM(s, h);
    EVENT(e)
    if (e->cap) { /* joins the capture */
        if (s->cap && s->cap != e->cap)
            return ret(cudaErrorStreamCaptureMerge);
        Capture &c = *e->cap;
        if (!s->cap) {
            s->cap = e->cap;
            s->slot = (int)c.slots.size();
            c.slots.push_back(s);
            c.front.emplace_back();
        }
        auto &f = c.front[(size_t)s->slot];
        f.insert(f.end(), e->front.begin(), e->front.end());
        return cudaSuccess;
    }
    if (s->cap) {
        s->cap->invalid = true;
        finding(me, cudaSuccess,
                "a capturing stream waits for an event recorded outside the capture");
        return ret(cudaErrorStreamCaptureIsolation);
    }
    if (!e->s || e->s->done >= e->seq)
        return cudaSuccess;
    Op op{};
    op.api = me;
    op.deps.push_back({e->s, e->seq});
    return ret(submit(lk, s, std::move(op)));
}
E cudaEventQuery(cudaEvent_t e)
{
    ENTER(cudaEventQuery);
    EVENT(e) if (e->cap) return ret(cudaErrorCapturedEvent);
    if (!e->s)
        return cudaSuccess;
    if (e->s->done < e->seq && rnd() & 1)
        run_one(lk);
    return e->s->done >= e->seq ? cudaSuccess : cudaErrorNotReady;
}
E cudaEventSynchronize(cudaEvent_t e)
{
    ENTER(cudaEventSynchronize);
    EVENT(e) if (e->cap) return ret(cudaErrorCapturedEvent);
    if (!e->s)
        return cudaSuccess;
    auto *s = e->s;
    uint64_t q = e->seq;
    return ret(wait(lk, me, [=] { return s->done >= q; }));
}
E cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    ENTER(cudaEventElapsedTime);
    EVENT(a)
    EVENT(b)
    if (!a->timing || !b->timing || !a->s || !b->s)
        return ret(cudaErrorInvalidResourceHandle);
    if (a->t < 0 || b->t < 0)
        return ret(cudaErrorNotReady);
    *ms = (float)((b->t - a->t) * 1e3);
    return cudaSuccess;
}
E cudaLaunchHostFunc(cudaStream_t h, cudaHostFn_t fn, void *arg)
{
    ENTER(cudaLaunchHostFunc);
    STREAM(s, h);
    Op op{};
    op.api = me;
    op.run = [=](Op &, Lock &l) {
        l.unlock();
        t_hostfn = true;
        fn(arg);
        t_hostfn = false;
        l.lock();
        return DONE;
    };
    return ret(submit(lk, s, std::move(op)));
}
E cudaFuncSetAttribute(const void *f, cudaFuncAttribute a, int v)
{
    Lock lk(S().mu);
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (v > 227 << 10)
            return ret(cudaErrorInvalidValue);
        S().smem_attr[f] = v;
    }
    return cudaSuccess;
}
}
