/* Functions made of others, for one floating type T; no guard. X(name): a function of T. */

FBI_VMATH T X(logit)(T x)
{
    return X(log)(x / (1 - x));
}
FBI_VMATH T X(logsigmoid)(T x)
{
    return (x < 0 ? x : 0) - X(log1p)(X(exp)(-X(fabs)(x)));
}
FBI_VMATH T X(mish_t)(T x)
{
    return X(tanh)((x > 0 ? x : 0) + X(log1p)(X(exp)(-X(fabs)(x))));
}
/* Remainder with the sign of b. */
FBI_VMATH T X(mod)(T a, T b)
{
    T r = X(fmod)(a, b);
    return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}
/* The quotient that goes with that remainder, rounded to the integer that it is but for errors. */
FBI_VMATH T X(floor_divide)(T a, T b)
{
    T r = X(fmod)(a, b), q = (a - r) / b;
    if (b == 0)
        return a / b;
    if (r != 0 && (b < 0) != (r < 0))
        q -= 1;
    if (q == 0)
        return X(copysign)(0, a / b);
    return q - X(floor)(q) > (T)0.5 ? X(floor)(q) + 1 : X(floor)(q);
}
FBI_VMATH T X(logaddexp)(T a, T b)
{
    T most = a > b ? a : b, same = a == b ? 0 : X(fabs)(a - b); /* infinities are equal */
    return most + X(log1p)(X(exp)(-same));
}
FBI_VMATH T X(logaddexp2)(T a, T b)
{
    T most = a > b ? a : b, same = a == b ? 0 : X(fabs)(a - b);
    return most + X(log1p)(X(exp2)(-same)) * (T)1.4426950408889634;
}
