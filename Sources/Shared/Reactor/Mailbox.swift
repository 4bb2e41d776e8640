import CLinux
import Synchronization

/// Messages for a loop from other threads, in order. Posting wakes the loop.
public final class Mailbox<Message: Sendable>: Sendable {
    private let waiting = Mutex<[Message]>([])
    let wakeUp: CInt

    public init() throws(SystemError) {
        wakeUp = clinux_eventfd()
        guard wakeUp >= 0 else { throw SystemError(-wakeUp) }
    }

    public func post(_ message: Message) {
        waiting.withLock { $0.append(message) }
        clinux_eventfd_signal(wakeUp)
    }

    func take() -> [Message] {
        waiting.withLock { messages in
            let taken = messages
            messages = []
            return taken
        }
    }

    /// Hands every message to `receive`, on the loop's thread. The mailbox's descriptor belongs to the loop from here on.
    public func attach(to loop: EventLoop, receive: @escaping (Message) -> Void) throws(SystemError) {
        try loop.add(MailboxSource(self, receive))
    }
}

private final class MailboxSource<Message: Sendable>: EventSource {
    private let mailbox: Mailbox<Message>
    private let receive: (Message) -> Void

    init(_ mailbox: Mailbox<Message>, _ receive: @escaping (Message) -> Void) {
        self.mailbox = mailbox
        self.receive = receive
        super.init(adopting: mailbox.wakeUp)
    }

    override func ready(_ readiness: Readiness) {
        clinux_eventfd_clear(descriptor)
        for message in mailbox.take() { receive(message) }
    }
}
