import Base
import HTTP
import Reactor
import Telemetry
import Transport

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
