/// The command operators of access log formats; docs/access-log.md says what each gives.
enum LogOperator: String, CaseIterable, Sendable {
    case startTime = "START_TIME"
    case request = "REQ"
    case requestWithoutQuery = "REQ_WITHOUT_QUERY"
    case response = "RESP"
    case trailer = "TRAILER"
    case protocolVersion = "PROTOCOL"
    case responseCode = "RESPONSE_CODE"
    case responseCodeDetails = "RESPONSE_CODE_DETAILS"
    case responseFlags = "RESPONSE_FLAGS"
    case bytesReceived = "BYTES_RECEIVED"
    case bytesSent = "BYTES_SENT"
    case duration = "DURATION"
    case requestDuration = "REQUEST_DURATION"
    case responseDuration = "RESPONSE_DURATION"
    case responseTxDuration = "RESPONSE_TX_DURATION"
    case upstreamHost = "UPSTREAM_HOST"
    case upstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS"
    case upstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
    case upstreamRemotePort = "UPSTREAM_REMOTE_PORT"
    case upstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS"
    case upstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"
    case upstreamLocalPort = "UPSTREAM_LOCAL_PORT"
    case upstreamCluster = "UPSTREAM_CLUSTER"
    case upstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON"
    case upstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT"
    case routeName = "ROUTE_NAME"
    case virtualClusterName = "VIRTUAL_CLUSTER_NAME"
    case filterChainName = "FILTER_CHAIN_NAME"
    case downstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS"
    case downstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
    case downstreamRemotePort = "DOWNSTREAM_REMOTE_PORT"
    case downstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"
    case downstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"
    case downstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT"
    case downstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS"
    case downstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"
    case downstreamLocalPort = "DOWNSTREAM_LOCAL_PORT"
    case downstreamPeerURISAN = "DOWNSTREAM_PEER_URI_SAN"
    case requestedServerName = "REQUESTED_SERVER_NAME"
    case connectionID = "CONNECTION_ID"
    case connectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS"
    case hostname = "HOSTNAME"
    case traceID = "TRACE_ID"
    case grpcStatus = "GRPC_STATUS"
    case grpcStatusNumber = "GRPC_STATUS_NUMBER"

    /// What may stand in the parentheses behind the name.
    enum Argument {
        case none
        /// `NAME` or `NAME?OTHER`, and `:LENGTH` behind the parentheses.
        case field
        /// A time format; may be left out.
        case time
        /// CAMEL_STRING, SNAKE_STRING or NUMBER; may be left out.
        case grpc
    }

    var argument: Argument {
        switch self {
        case .request, .requestWithoutQuery, .response, .trailer: .field
        case .startTime: .time
        case .grpcStatus: .grpc
        default: .none
        }
    }
}

/// The names of gRPC's status codes, at the index of their number.
enum GRPCStatusName {
    static let camel: [StaticString] = [
        "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
        "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
        "Unauthenticated",
    ]
    static let snake: [StaticString] = [
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
        "UNAUTHENTICATED",
    ]
}
