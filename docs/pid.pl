# A server that knows nothing of SO_REUSEPORT: tells each client its process id.
use IO::Socket::INET;

my $port = shift or die "usage: perl pid.pl PORT\n";
my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 128) or die "bind: $!\n";
while (my $client = $listener->accept) {
    print $client "$$\n";
    close $client;
}
