/// Counters of one thing (a listener, a cluster, ...) on one worker: that worker writes, the admin thread reads.
///
/// The stored properties are public so that the proxy writes `stats.upstreamRqTotal.increment()`. Names are Envoy's where Envoy has
/// the counter; docs/metrics.md says what each means.
protocol StatBlock: AnyObject, Sendable {
    /// Shows every counter to the reader, always in the same order.
    func visit(_ reader: inout StatReader)
}

/// `listener.<address>.`
public final class ListenerStats: StatBlock {
    public let downstreamCxTotal = Counter()
    public let downstreamCxActive = Gauge()
    public let downstreamCxDestroy = Counter()
    /// Refused because a limit of connections or descriptors was reached.
    public let downstreamCxOverflow = Counter()
    /// Refused because the process sheds load.
    public let downstreamCxOverloadReject = Counter()
    public let noFilterChainMatch = Counter()
    public let downstreamCxRxBytesTotal = Counter()
    public let downstreamCxTxBytesTotal = Counter()
    public let downstreamCxLength = Histogram(.connections)
    /// Closed because it did not show in time what it speaks.
    public let downstreamPreCxTimeout = Counter()
    public let ssl = TLSStats()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter(
            "downstream_pre_cx_timeout", "Connections closed because their protocol or TLS handshake took too long.",
            downstreamPreCxTimeout)
        ssl.visit(&reader)
        reader.counter("downstream_cx_total", "Connections accepted.", downstreamCxTotal)
        reader.gauge("downstream_cx_active", "Connections open.", downstreamCxActive)
        reader.counter("downstream_cx_destroy", "Connections closed.", downstreamCxDestroy)
        reader.counter("downstream_cx_overflow", "Connections refused at a limit of connections or descriptors.", downstreamCxOverflow)
        reader.counter("downstream_cx_overload_reject", "Connections refused to shed load.", downstreamCxOverloadReject)
        reader.counter("no_filter_chain_match", "Connections closed because no filter chain fits.", noFilterChainMatch)
        reader.counter("downstream_cx_rx_bytes_total", "Bytes read from callers.", downstreamCxRxBytesTotal)
        reader.counter("downstream_cx_tx_bytes_total", "Bytes written to callers.", downstreamCxTxBytesTotal)
        reader.histogram("downstream_cx_length_ms", "Life of connections, in milliseconds.", downstreamCxLength)
    }
}

/// `ssl.`: TLS of a listener or of a cluster.
public final class TLSStats: Sendable {
    public let handshake = Counter()
    public let sessionReused = Counter()
    public let connectionError = Counter()
    public let failVerifyError = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("ssl.handshake", "TLS handshakes that succeeded.", handshake)
        reader.counter("ssl.session_reused", "TLS handshakes that resumed a session.", sessionReused)
        reader.counter("ssl.connection_error", "TLS handshakes that failed, for whatever reason.", connectionError)
        reader.counter("ssl.fail_verify_error", "TLS handshakes that failed because we refused a certificate.", failVerifyError)
    }
}

/// `http2.`: resets, added when a connection closes, and connections that ended because a budget was exceeded.
public final class HTTP2Stats: Sendable {
    public let rxReset = Counter()
    public let txReset = Counter()
    public let rxMessagingError = Counter()
    public let headerOverflow = Counter()
    public let continuationFlood = Counter()
    public let resetFlood = Counter()
    public let provokedResetFlood = Counter()
    public let pingFlood = Counter()
    public let settingsFlood = Counter()
    public let inboundPriorityFramesFlood = Counter()
    public let inboundWindowUpdateFramesFlood = Counter()
    public let inboundEmptyFramesFlood = Counter()
    public let outboundControlFlood = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("http2.header_overflow", "Heads above the limit of bytes or fields.", headerOverflow)
        reader.counter("http2.continuation_flood", "Connections ended: too many CONTINUATION frames.", continuationFlood)
        reader.counter("http2.reset_flood", "Connections ended: streams were opened and reset too often.", resetFlood)
        reader.counter("http2.provoked_reset_flood", "Connections ended: we were made to reset streams too often.", provokedResetFlood)
        reader.counter("http2.ping_flood", "Connections ended: too many PING frames.", pingFlood)
        reader.counter("http2.settings_flood", "Connections ended: too many SETTINGS frames.", settingsFlood)
        reader.counter(
            "http2.inbound_priority_frames_flood", "Connections ended: too many PRIORITY frames.", inboundPriorityFramesFlood)
        reader.counter(
            "http2.inbound_window_update_frames_flood", "Connections ended: too many WINDOW_UPDATE frames.",
            inboundWindowUpdateFramesFlood)
        reader.counter(
            "http2.inbound_empty_frames_flood", "Connections ended: too many frames that say nothing.", inboundEmptyFramesFlood)
        reader.counter(
            "http2.outbound_control_flood", "Connections ended: answers to PING and SETTINGS were not read.", outboundControlFlood)
        reader.counter("http2.rx_reset", "Streams that the other side reset.", rxReset)
        reader.counter("http2.tx_reset", "Streams that we reset.", txReset)
        reader.counter("http2.rx_messaging_error", "Messages that broke the rules of RFC 9113 section 8.", rxMessagingError)
    }
}

/// `http.<stat_prefix>.`: callers' HTTP connections and requests.
public final class DownstreamHTTPStats: StatBlock {
    public let downstreamCxTotal = Counter()
    public let downstreamCxHTTP1Total = Counter()
    public let downstreamCxHTTP2Total = Counter()
    public let downstreamCxMaxDurationReached = Counter()
    public let downstreamCxKeepaliveTimeout = Counter()
    public let http2 = HTTP2Stats()
    public let downstreamCxActive = Gauge()
    public let downstreamCxDestroy = Counter()
    public let downstreamCxDestroyLocal = Counter()
    public let downstreamCxDestroyRemote = Counter()
    public let downstreamCxDestroyLocalActiveRq = Counter()
    public let downstreamCxDestroyRemoteActiveRq = Counter()
    public let downstreamCxUpgradesTotal = Counter()
    public let downstreamCxUpgradesActive = Gauge()
    public let downstreamCxProtocolError = Counter()
    /// The same by reason: the index is the raw value of the codec's reason, whose names `StatsRegistry` is given.
    public let downstreamCxProtocolErrorReasons = IndexedCounters()
    public let downstreamCxIdleTimeout = Counter()
    public let downstreamCxDrainClose = Counter()
    public let downstreamCxRxBytesTotal = Counter()
    public let downstreamCxTxBytesTotal = Counter()
    public let downstreamFlowControlPausedReadingTotal = Counter()
    public let downstreamFlowControlResumedReadingTotal = Counter()

    public let downstreamRqTotal = Counter()
    public let downstreamRqHTTP1Total = Counter()
    public let downstreamRqHTTP2Total = Counter()
    public let downstreamRqGRPCTotal = Counter()
    public let downstreamRqActive = Gauge()
    public let downstreamRqRxReset = Counter()
    public let downstreamRqTxReset = Counter()
    /// No complete answer within the route's timeout.
    public let downstreamRqTimeout = Counter()
    /// No complete head in time.
    public let downstreamRqHeaderTimeout = Counter()
    public let downstreamRqIdleTimeout = Counter()
    /// Answered 413, 414 or 431.
    public let downstreamRqTooLarge = Counter()
    public let downstreamRqOverloadClose = Counter()
    public let downstreamRqResponseBeforeRqComplete = Counter()
    public let downstreamRqFailedPathNormalization = Counter()
    public let downstreamRq = StatusCounters()
    /// From the head's first byte to the response's last.
    public let downstreamRqTime = Histogram(.requests)

    public let noRoute = Counter()
    public let noCluster = Counter()
    public let rqDirectResponse = Counter()
    public let rqRateLimited = Counter()
    public let rqDelayInjected = Counter()
    public let rqFaultInjected = Counter()
    public let rqTotal = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("downstream_cx_total", "Connections.", downstreamCxTotal)
        reader.counter("downstream_cx_http1_total", "HTTP/1 connections.", downstreamCxHTTP1Total)
        reader.counter("downstream_cx_http2_total", "HTTP/2 connections.", downstreamCxHTTP2Total)
        reader.counter(
            "downstream_cx_max_duration_reached", "Connections asked to leave because of their age.", downstreamCxMaxDurationReached)
        reader.counter("downstream_cx_keepalive_timeout", "HTTP/2 connections that did not answer PING.", downstreamCxKeepaliveTimeout)
        http2.visit(&reader)
        reader.gauge("downstream_cx_active", "Connections open.", downstreamCxActive)
        reader.counter("downstream_cx_destroy", "Connections closed.", downstreamCxDestroy)
        reader.counter("downstream_cx_destroy_local", "Connections closed by this proxy.", downstreamCxDestroyLocal)
        reader.counter("downstream_cx_destroy_remote", "Connections closed by the caller.", downstreamCxDestroyRemote)
        reader.counter(
            "downstream_cx_destroy_local_active_rq", "Connections closed by this proxy while a request was open.",
            downstreamCxDestroyLocalActiveRq)
        reader.counter(
            "downstream_cx_destroy_remote_active_rq", "Connections closed by the caller while a request was open.",
            downstreamCxDestroyRemoteActiveRq)
        reader.counter("downstream_cx_upgrades_total", "Connections that became tunnels (Upgrade, CONNECT).", downstreamCxUpgradesTotal)
        reader.gauge("downstream_cx_upgrades_active", "Tunnels open.", downstreamCxUpgradesActive)
        reader.counter("downstream_cx_protocol_error", "Connections closed for a protocol error.", downstreamCxProtocolError)
        reader.reasons("downstream_cx_protocol_error_by_reason", "Protocol errors of callers by reason.", downstreamCxProtocolErrorReasons)
        reader.counter("downstream_cx_idle_timeout", "Connections closed because they were idle too long.", downstreamCxIdleTimeout)
        reader.counter("downstream_cx_drain_close", "Connections closed because the proxy or listener drains.", downstreamCxDrainClose)
        reader.counter("downstream_cx_rx_bytes_total", "Bytes read from callers.", downstreamCxRxBytesTotal)
        reader.counter("downstream_cx_tx_bytes_total", "Bytes written to callers.", downstreamCxTxBytesTotal)
        reader.counter(
            "downstream_flow_control_paused_reading_total", "Times reading from a caller stopped because the upstream was slow.",
            downstreamFlowControlPausedReadingTotal)
        reader.counter(
            "downstream_flow_control_resumed_reading_total", "Times reading from a caller went on.",
            downstreamFlowControlResumedReadingTotal)
        reader.counter("downstream_rq_total", "Requests.", downstreamRqTotal)
        reader.counter("downstream_rq_http1_total", "HTTP/1 requests.", downstreamRqHTTP1Total)
        reader.counter("downstream_rq_http2_total", "HTTP/2 requests.", downstreamRqHTTP2Total)
        reader.counter("downstream_rq_grpc_total", "gRPC requests.", downstreamRqGRPCTotal)
        reader.gauge("downstream_rq_active", "Requests open.", downstreamRqActive)
        reader.counter("downstream_rq_rx_reset", "Requests that the caller reset or left.", downstreamRqRxReset)
        reader.counter("downstream_rq_tx_reset", "Requests that this proxy reset.", downstreamRqTxReset)
        reader.counter("downstream_rq_timeout", "Requests that ran out of their route's time.", downstreamRqTimeout)
        reader.counter("downstream_rq_header_timeout", "Requests whose head was not complete in time.", downstreamRqHeaderTimeout)
        reader.counter("downstream_rq_idle_timeout", "Requests closed because nothing moved too long.", downstreamRqIdleTimeout)
        reader.counter("downstream_rq_too_large", "Requests refused for their size (413, 414, 431).", downstreamRqTooLarge)
        reader.counter("downstream_rq_overload_close", "Requests refused to shed load.", downstreamRqOverloadClose)
        reader.counter(
            "downstream_rq_response_before_rq_complete", "Responses that came before the request's end.",
            downstreamRqResponseBeforeRqComplete)
        reader.counter(
            "downstream_rq_failed_path_normalization", "Requests refused because their path has no normal form.",
            downstreamRqFailedPathNormalization)
        reader.statuses("downstream_rq", "Responses to callers", downstreamRq)
        reader.histogram("downstream_rq_time", "Time of requests, in milliseconds.", downstreamRqTime)
        reader.counter("no_route", "Requests that match no route.", noRoute)
        reader.counter("no_cluster", "Requests whose route names an unknown cluster.", noCluster)
        reader.counter("rq_direct_response", "Requests answered by their route itself.", rqDirectResponse)
        reader.counter("rq_rate_limited", "Requests refused by the rate limit of their route.", rqRateLimited)
        reader.counter("fault.delays_injected", "Requests that waited because their route's policy orders it.", rqDelayInjected)
        reader.counter("fault.aborts_injected", "Requests answered with a fault that their route's policy orders.", rqFaultInjected)
        reader.counter("rq_total", "Requests that were routed.", rqTotal)
    }
}

/// `tcp.<stat_prefix>.`: relayed TCP connections.
public final class TCPStats: StatBlock {
    public let downstreamCxTotal = Counter()
    public let downstreamCxActive = Gauge()
    public let downstreamCxNoRoute = Counter()
    public let downstreamCxRxBytesTotal = Counter()
    public let downstreamCxTxBytesTotal = Counter()
    public let downstreamFlowControlPausedReadingTotal = Counter()
    public let downstreamFlowControlResumedReadingTotal = Counter()
    public let idleTimeout = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("downstream_cx_total", "Connections.", downstreamCxTotal)
        reader.gauge("downstream_cx_active", "Connections open.", downstreamCxActive)
        reader.counter("downstream_cx_no_route", "Connections without a target cluster.", downstreamCxNoRoute)
        reader.counter("downstream_cx_rx_bytes_total", "Bytes read from callers.", downstreamCxRxBytesTotal)
        reader.counter("downstream_cx_tx_bytes_total", "Bytes written to callers.", downstreamCxTxBytesTotal)
        reader.counter(
            "downstream_flow_control_paused_reading_total", "Times reading from a caller stopped because the upstream was slow.",
            downstreamFlowControlPausedReadingTotal)
        reader.counter(
            "downstream_flow_control_resumed_reading_total", "Times reading from a caller went on.",
            downstreamFlowControlResumedReadingTotal)
        reader.counter("idle_timeout", "Connections closed because nothing moved too long.", idleTimeout)
    }
}

/// `cluster.<name>.`: connections and requests to a cluster's endpoints.
public final class ClusterStats: StatBlock {
    public let upstreamCxTotal = Counter()
    public let upstreamCxActive = Gauge()
    public let upstreamCxHTTP1Total = Counter()
    public let upstreamCxHTTP2Total = Counter()
    public let upstreamCxMaxDurationReached = Counter()
    public let upstreamCxKeepaliveTimeout = Counter()
    public let http2 = HTTP2Stats()
    public let ssl = TLSStats()
    public let upstreamCxConnectFail = Counter()
    public let upstreamCxConnectTimeout = Counter()
    public let upstreamCxIdleTimeout = Counter()
    public let upstreamCxMaxRequests = Counter()
    public let upstreamCxNoneHealthy = Counter()
    public let upstreamCxOverflow = Counter()
    public let upstreamCxDestroy = Counter()
    public let upstreamCxDestroyLocal = Counter()
    public let upstreamCxDestroyRemote = Counter()
    public let upstreamCxDestroyWithActiveRq = Counter()
    public let upstreamCxDestroyLocalWithActiveRq = Counter()
    public let upstreamCxDestroyRemoteWithActiveRq = Counter()
    public let upstreamCxCloseNotify = Counter()
    public let upstreamCxProtocolError = Counter()
    public let upstreamCxProtocolErrorReasons = IndexedCounters()
    public let upstreamCxRxBytesTotal = Counter()
    public let upstreamCxTxBytesTotal = Counter()
    /// From the start of connecting to an established connection.
    public let upstreamCxConnect = Histogram(.requests)
    public let upstreamCxLength = Histogram(.connections)
    public let upstreamFlowControlPausedReadingTotal = Counter()
    public let upstreamFlowControlResumedReadingTotal = Counter()

    public let upstreamRqTotal = Counter()
    public let upstreamRqActive = Gauge()
    public let upstreamRqPendingTotal = Counter()
    public let upstreamRqPendingActive = Gauge()
    public let upstreamRqPendingOverflow = Counter()
    public let upstreamRqActiveOverflow = Counter()
    public let upstreamRqPendingFailureEject = Counter()
    public let upstreamRqCancelled = Counter()
    public let upstreamRqTimeout = Counter()
    public let upstreamRqPerTryTimeout = Counter()
    /// Of ours.
    public let upstreamRqPerTryTimeoutYielded = Counter()
    public let upstreamRqBreakerOpen = Counter()
    public let upstreamRqMirrored = Counter()
    public let upstreamRqHedged = Counter()
    public let upstreamRqMaxDurationReached = Counter()
    public let upstreamRqRxReset = Counter()
    public let upstreamRqTxReset = Counter()
    public let upstreamRqRetry = Counter()
    public let upstreamRqRetrySuccess = Counter()
    public let upstreamRqRetryOverflow = Counter()
    public let upstreamRqRetryLimitExceeded = Counter()
    public let upstreamRqRetryBackoffExponential = Counter()
    /// Sent again, free of the budget, because the idle connection it was written to had just been closed (flag KA).
    public let upstreamRqRetryKeepAliveRace = Counter()
    public let upstreamRqRetryUnprocessed = Counter()
    public let upstreamRq = StatusCounters()
    public let grpcTotal = Counter()
    public let grpcSuccess = Counter()
    public let grpcFailure = Counter()
    /// From the end of the request's head to the end of the response.
    public let upstreamRqTime = Histogram(.requests)

    /// Requests balanced in panic, health ignored.
    public let lbHealthyPanic = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("upstream_cx_total", "Connections begun.", upstreamCxTotal)
        reader.gauge("upstream_cx_active", "Connections open.", upstreamCxActive)
        reader.counter("upstream_cx_http1_total", "HTTP/1 connections.", upstreamCxHTTP1Total)
        reader.counter("upstream_cx_http2_total", "HTTP/2 connections.", upstreamCxHTTP2Total)
        reader.counter(
            "upstream_cx_max_duration_reached", "Connections left because of their age.", upstreamCxMaxDurationReached)
        reader.counter("upstream_cx_keepalive_timeout", "HTTP/2 connections that did not answer PING.", upstreamCxKeepaliveTimeout)
        http2.visit(&reader)
        ssl.visit(&reader)
        reader.counter("grpc.total", "gRPC calls that an endpoint answered.", grpcTotal)
        reader.counter("grpc.success", "gRPC calls answered with status 0.", grpcSuccess)
        reader.counter("grpc.failure", "gRPC calls answered with another status, or none.", grpcFailure)
        reader.counter("upstream_cx_connect_fail", "Connects that failed.", upstreamCxConnectFail)
        reader.counter("upstream_cx_connect_timeout", "Connects that took too long.", upstreamCxConnectTimeout)
        reader.counter("upstream_cx_idle_timeout", "Connections closed because they were idle too long.", upstreamCxIdleTimeout)
        reader.counter("upstream_cx_max_requests", "Connections closed after their last allowed request.", upstreamCxMaxRequests)
        reader.counter("upstream_cx_none_healthy", "Times no endpoint could be picked.", upstreamCxNoneHealthy)
        reader.counter("upstream_cx_overflow", "Times the limit of connections was reached.", upstreamCxOverflow)
        reader.counter("upstream_cx_destroy", "Connections closed.", upstreamCxDestroy)
        reader.counter("upstream_cx_destroy_local", "Connections closed by this proxy.", upstreamCxDestroyLocal)
        reader.counter("upstream_cx_destroy_remote", "Connections closed by the endpoint.", upstreamCxDestroyRemote)
        reader.counter(
            "upstream_cx_destroy_with_active_rq", "Connections closed while a request was open.", upstreamCxDestroyWithActiveRq)
        reader.counter(
            "upstream_cx_destroy_local_with_active_rq", "Connections closed by this proxy while a request was open.",
            upstreamCxDestroyLocalWithActiveRq)
        reader.counter(
            "upstream_cx_destroy_remote_with_active_rq", "Connections closed by the endpoint while a request was open.",
            upstreamCxDestroyRemoteWithActiveRq)
        reader.counter("upstream_cx_close_notify", "Connections that the endpoint announced to close.", upstreamCxCloseNotify)
        reader.counter("upstream_cx_protocol_error", "Connections closed for a protocol error.", upstreamCxProtocolError)
        reader.reasons("upstream_cx_protocol_error_by_reason", "Protocol errors of endpoints by reason.", upstreamCxProtocolErrorReasons)
        reader.counter("upstream_cx_rx_bytes_total", "Bytes read from endpoints.", upstreamCxRxBytesTotal)
        reader.counter("upstream_cx_tx_bytes_total", "Bytes written to endpoints.", upstreamCxTxBytesTotal)
        reader.histogram("upstream_cx_connect_ms", "Time to connect, in milliseconds.", upstreamCxConnect)
        reader.histogram("upstream_cx_length_ms", "Life of connections, in milliseconds.", upstreamCxLength)
        reader.counter(
            "upstream_flow_control_paused_reading_total", "Times reading from an endpoint stopped because the caller was slow.",
            upstreamFlowControlPausedReadingTotal)
        reader.counter(
            "upstream_flow_control_resumed_reading_total", "Times reading from an endpoint went on.",
            upstreamFlowControlResumedReadingTotal)
        reader.counter("upstream_rq_total", "Requests sent, retries included.", upstreamRqTotal)
        reader.gauge("upstream_rq_active", "Requests open.", upstreamRqActive)
        reader.counter("upstream_rq_pending_total", "Requests that waited for a connection.", upstreamRqPendingTotal)
        reader.gauge("upstream_rq_pending_active", "Requests waiting for a connection.", upstreamRqPendingActive)
        reader.counter("upstream_rq_pending_overflow", "Requests refused because too many waited.", upstreamRqPendingOverflow)
        reader.counter("upstream_rq_active_overflow", "Requests refused because too many were open.", upstreamRqActiveOverflow)
        reader.counter(
            "upstream_rq_pending_failure_eject", "Waiting requests failed because their connection did.", upstreamRqPendingFailureEject)
        reader.counter("upstream_rq_cancelled", "Requests given up before a connection was there.", upstreamRqCancelled)
        reader.counter("upstream_rq_timeout", "Requests that ran out of their route's time.", upstreamRqTimeout)
        reader.counter("upstream_rq_per_try_timeout", "Tries that ran out of time.", upstreamRqPerTryTimeout)
        reader.counter(
            "upstream_rq_per_try_timeout_yielded", "Tries that ran out of time and went on, since most endpoints were slow.",
            upstreamRqPerTryTimeoutYielded)
        reader.counter("upstream_rq_breaker_open", "Requests refused by the open breaker of their service.", upstreamRqBreakerOpen)
        reader.counter("upstream_rq_hedged", "Attempts begun beside others that took long; they count as retries too.", upstreamRqHedged)
        reader.counter("upstream_rq_mirrored", "Copies of other requests, begun.", upstreamRqMirrored)
        reader.counter("upstream_rq_max_duration_reached", "Requests closed at their longest allowed life.", upstreamRqMaxDurationReached)
        reader.counter("upstream_rq_rx_reset", "Requests that the endpoint reset.", upstreamRqRxReset)
        reader.counter("upstream_rq_tx_reset", "Requests that this proxy reset.", upstreamRqTxReset)
        reader.counter("upstream_rq_retry", "Retries.", upstreamRqRetry)
        reader.counter("upstream_rq_retry_success", "Retries that succeeded.", upstreamRqRetrySuccess)
        reader.counter("upstream_rq_retry_overflow", "Retries that the budget or breaker refused.", upstreamRqRetryOverflow)
        reader.counter("upstream_rq_retry_limit_exceeded", "Requests whose last allowed retry failed.", upstreamRqRetryLimitExceeded)
        reader.counter("upstream_rq_retry_backoff_exponential", "Retries that waited first.", upstreamRqRetryBackoffExponential)
        reader.counter(
            "upstream_rq_retry_keepalive_race", "Requests sent again because an idle connection closed under them.",
            upstreamRqRetryKeepAliveRace)
        reader.counter(
            "upstream_rq_retry_unprocessed", "Requests sent again because the endpoint said that it had not looked at them.",
            upstreamRqRetryUnprocessed)
        reader.statuses("upstream_rq", "Responses of endpoints", upstreamRq)
        reader.histogram("upstream_rq_time", "Time of requests, in milliseconds.", upstreamRqTime)
        reader.counter("lb_healthy_panic", "Requests balanced over unhealthy endpoints too (panic).", lbHealthyPanic)
    }
}

/// One endpoint of one cluster.
public final class HostStats: StatBlock {
    public let cxTotal = Counter()
    public let cxActive = Gauge()
    public let cxConnectFail = Counter()
    public let rqTotal = Counter()
    public let rqActive = Gauge()
    public let rqSuccess = Counter()
    /// 5xx, resets and connect failures.
    public let rqError = Counter()
    public let rqTimeout = Counter()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("cx_total", "Connections begun.", cxTotal)
        reader.gauge("cx_active", "Connections open.", cxActive)
        reader.counter("cx_connect_fail", "Connects that failed.", cxConnectFail)
        reader.counter("rq_total", "Requests sent.", rqTotal)
        reader.gauge("rq_active", "Requests open.", rqActive)
        reader.counter("rq_success", "Requests answered, not with 5xx.", rqSuccess)
        reader.counter("rq_error", "Requests that ended with 5xx, a reset or a failed connect.", rqError)
        reader.counter("rq_timeout", "Requests that ran out of time.", rqTimeout)
    }
}

/// One worker: how busy and how late its loop is.
public final class WorkerStats: StatBlock {
    public let loopTurns = Counter()
    /// Time not spent waiting for events, in nanoseconds.
    public let busyNanoseconds = Counter()
    /// How long one turn of the loop took: what the last event of a turn waited.
    public let loopTurn = Histogram(.requests)
    public let connectionsActive = Gauge()
    public let streamsActive = Gauge()
    public let acceptedTotal = Counter()
    /// Times accepting stopped: no descriptors left (EMFILE, ENFILE) or the limit of connections reached.
    public let acceptPauses = Counter()
    /// 1 while accepting is stopped.
    public let acceptPaused = Gauge()
    /// Connections closed, requests refused and streams reset to shed load.
    public let overloadIdleClosed = Counter()
    public let overloadRequestsRefused = Counter()
    public let overloadStreamsReset = Counter()
    public let buffersActive = Gauge()
    public let bufferBytes = Gauge()
    public let timersActive = Gauge()

    public init() {}

    func visit(_ reader: inout StatReader) {
        reader.counter("loop_turns_total", "Turns of the event loop.", loopTurns)
        reader.counter("busy_nanoseconds_total", "Time not spent waiting for events.", busyNanoseconds)
        reader.histogram("loop_turn_ms", "Length of a turn of the event loop, in milliseconds.", loopTurn)
        reader.gauge("connections_active", "Connections open, both sides.", connectionsActive)
        reader.gauge("streams_active", "Requests and tunnels open.", streamsActive)
        reader.counter("accepted_total", "Connections accepted.", acceptedTotal)
        reader.counter("accept_pauses_total", "Times accepting stopped for want of descriptors or at a limit.", acceptPauses)
        reader.gauge("accept_paused", "1 while accepting is stopped.", acceptPaused)
        reader.counter("overload_idle_closed_total", "Idle connections of callers closed to shed load.", overloadIdleClosed)
        reader.counter("overload_requests_refused_total", "Requests answered with 503 to shed load.", overloadRequestsRefused)
        reader.counter("overload_streams_reset_total", "Streams reset to shed load.", overloadStreamsReset)
        reader.gauge("buffers_active", "Buffers held by connections.", buffersActive)
        reader.gauge("buffer_bytes", "Memory of those buffers.", bufferBytes)
        reader.gauge("timers_active", "Timers set.", timersActive)
    }
}
