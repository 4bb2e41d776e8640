import Base
import HTTP
import Reactor
import Routing
import Telemetry
import Transport

extension Stream {
    /// What the request's line in the access logs says.
    func accessRecord(duration: Nanoseconds) -> AccessRecord {
        var record = AccessRecord()
        record.startTime = Clock.realtime() - duration.count
        record.request = requestHead
        record.response = hasResponseStarted ? responseHead : nil
        record.trailers = responseTrailers
        record.protocolVersion = requestHead.isHTTP2 ? .http2 : requestHead.minorVersion == 0 ? .http10 : .http11
        record.status = hasResponseStarted ? responseHead.status : 0
        record.flags = flags
        record.details = .literal(details)
        record.upstreamTransportFailureReason = transportFailure
        record.bytesReceived = Int(requestBytes)
        record.bytesSent = Int(responseBytes)
        record.duration = duration.count
        if requestEndedAt != .never { record.requestDuration = (requestEndedAt - started).count }
        if responseStartedAt != .never { record.responseDuration = (responseStartedAt - started).count }
        record.upstreamHost = host?.shared.address
        record.upstreamCluster = cluster?.nameBytes ?? []
        record.attempts = attempts.count
        if let route { record.routeName = Array(route.name.utf8) }
        downstream?.connection.describe(&record)
        return record
    }
}

extension DownstreamConnection {
    /// What a log record says of a caller's connection.
    func describe(_ record: inout AccessRecord) {
        record.downstreamRemoteAddress = peer
        record.downstreamDirectRemoteAddress = peer
        record.downstreamLocalAddress = local
        guard let tls else { return }
        record.requestedServerName = tls.serverName.map { Array($0.utf8) } ?? []
        record.downstreamPeerURISAN = identity.map { Array($0.uriSANs.joined(separator: ",").utf8) } ?? []
    }
}

extension TCPDownstream {
    /// Writes the connection's line to the listener's access logs.
    func log(duration: Nanoseconds) {
        var record = AccessRecord()
        record.startTime = Clock.realtime() - duration.count
        record.flags = flags
        record.connectionTerminationDetails = .literal(details)
        record.upstreamTransportFailureReason = transportFailure
        record.bytesReceived = Int(bytesRead)
        record.bytesSent = Int(bytesWritten)
        record.duration = duration.count
        record.upstreamHost = host?.shared.address
        record.upstreamCluster = cluster?.nameBytes ?? []
        record.attempts = host == nil ? 0 : 1
        describe(&record)
        filter.logs.append(record)
    }
}
