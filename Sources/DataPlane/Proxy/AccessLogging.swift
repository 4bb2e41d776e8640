import Base
import HTTP
import Reactor
import Telemetry

extension HTTP1Downstream {
    /// What a log record says of the connection.
    func describe(_ record: inout AccessRecord) {
        record.downstreamRemoteAddress = peer
        record.downstreamDirectRemoteAddress = peer
        record.downstreamLocalAddress = local
    }
}

extension TCPDownstream {
    /// Writes the connection's line to the listener's access logs.
    func log(duration: Nanoseconds) {
        var record = AccessRecord()
        record.startTime = Clock.realtime() - duration.count
        record.flags = flags
        record.connectionTerminationDetails = .literal(details)
        record.bytesReceived = Int(bytesRead)
        record.bytesSent = Int(bytesWritten)
        record.duration = duration.count
        record.upstreamHost = host?.shared.address
        record.upstreamCluster = cluster?.nameBytes ?? []
        record.attempts = host == nil ? 0 : 1
        record.downstreamRemoteAddress = peer
        record.downstreamDirectRemoteAddress = peer
        record.downstreamLocalAddress = Socket.localAddress(descriptor)
        filter.logs.append(record)
    }
}
